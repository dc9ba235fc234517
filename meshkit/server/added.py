"""What is added to a server, seen before the server is made: its interceptors have to know the services' names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import grpc

__all__ = ["AddedServices"]


class AddedServices:
    """The services that a function such as `lambda server: add_GreeterServicer_to_server(Greeter(), server)` adds.

    Args:
        add_services: called once, with this in the place of a server.
    """

    def __init__(self, add_services: Callable[[Any], None]) -> None:
        self._generic: list[grpc.GenericRpcHandler] = []
        self._registered: list[tuple[str, Mapping[str, Any]]] = []
        add_services(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of the services; a generic handler that is of no one service has none."""
        named = [handler for handler in self._generic if isinstance(handler, grpc.ServiceRpcHandler)]
        return tuple(dict.fromkeys(handler.service_name() for handler in named))

    def check(self, names: Collection[str], whose: str) -> None:
        """Check that there are services of these full names: a misspelt one would have no effect, and no error.

        A generic handler that is of no one service may be of any.

        Args:
            names: e.g. `["BookService"]`.
            whose: who names them, for the error.

        Raises:
            ValueError: there is none of one of the names.
        """
        unknown = sorted(set(names) - set(self.names))
        if unknown and all(isinstance(handler, grpc.ServiceRpcHandler) for handler in self._generic):
            there = ", ".join(self.names) or "none"
            raise ValueError(f"{whose}: expected full names of services that are added ({there}), got {unknown}")

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[Any]) -> None:
        """Note a generated servicer's handlers; this and the method below are those of grpc.aio.Server."""
        self._generic += generic_rpc_handlers

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Generated code of newer releases calls it as well."""
        self._registered.append((service_name, method_handlers))

    def add_to(self, server: Any) -> None:
        """Add them to a server."""
        server.add_generic_rpc_handlers(tuple(self._generic))
        for service_name, method_handlers in self._registered:
            server.add_registered_method_handlers(service_name, method_handlers)
