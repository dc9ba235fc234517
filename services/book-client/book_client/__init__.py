"""The book client: the calls, their tally, and the program that makes them through the mesh."""
