"""How fast the mesh is: `make bench`. Method and results: docs/performance.md."""
