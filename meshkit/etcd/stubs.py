"""etcd's generated API as the package etcd3 brings it, imported without the warnings of its age."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    # An old protoc generated it: protobuf 3.20 warns of each of its descriptors.
    warnings.simplefilter("ignore", DeprecationWarning)
    from etcd3.etcdrpc import rpc_pb2 as rpc
    from etcd3.etcdrpc import rpc_pb2_grpc as stubs

__all__ = ["rpc", "stubs"]
