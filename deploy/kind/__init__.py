"""The cluster on this machine and its images: `make kind-up`, `kind-down` and `images`; README.md says what they do.

`python -m deploy.kind up|down|images` is what the Makefile runs. The e2e tests and their mutations borrow a cluster by
`deploy.kind.temporary`. Programs are fetched by `toolchain`, whose cache, locks and progress are used here too.
"""
