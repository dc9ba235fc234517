"""The mesh on this machine: real etcd, real Zipkin, replicas and clients as child processes.

For `make demo`, the integration tests and the benchmarks; not part of what is installed.
"""
