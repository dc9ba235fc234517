"""Fetches the programs that the checkout needs but Python packages do not bring: etcd, Zipkin, java and so on.

`python -m toolchain [TOOL]...` leaves each under `.tools/`, pinned and checksummed. A tool lists where it
can come from (`toolchain.tools`), in order of preference; the first source that can deliver is used
(`toolchain.install`). What is costly to get is kept by version in the user's cache (`toolchain.cache`).
"""
