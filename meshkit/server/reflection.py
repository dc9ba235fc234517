"""Server reflection, by which tools such as grpcurl learn what can be called."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection

__all__ = ["SERVICE_NAME", "SymbolPool", "enable_reflection"]

SERVICE_NAME: str = reflection.SERVICE_NAME


class SymbolPool:
    """A pool of descriptors that finds methods, too: protobuf 3.20's, in Python, knows none by its full name.

    Args:
        pool: has the descriptors. Default: all that this process has loaded.
    """

    def __init__(self, pool: Any = None) -> None:
        self._pool = pool or descriptor_pool.Default()  # type: ignore[no-untyped-call]

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - the pool's
        """The file of a message, an enum, a service or a method, by its full name.

        Raises:
            KeyError: there is none.
        """
        try:
            file: FileDescriptor = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            file = self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file
        return file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def enable_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Add the service to a server; it tells of these services, by their full names, and of itself."""
    reflection.enable_server_reflection((*services, SERVICE_NAME), server, SymbolPool())
