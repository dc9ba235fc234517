"""How a server's interceptors wrap the unary handlers of a service: each once, not at every call."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from typing import Any

import grpc

__all__ = ["KEPT_METHODS", "Behavior", "Handler", "UnaryInterceptor"]

# grpc.RpcMethodHandler, whose fields its type stubs leave out.
Handler = Any
# Wrapped handlers that are kept. A bound, as a generic handler may answer whatever method a client names.
KEPT_METHODS = 1024
Behavior = Callable[[Any, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]


class UnaryInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the unary handlers of some services; all other handlers pass untouched.

    Args:
        services: full names of the services it is for.
    """

    def __init__(self, services: Collection[str]) -> None:
        self._prefixes = tuple(f"/{service}/" for service in services)
        self._wrapped = lru_cache(KEPT_METHODS)(self.wrap)

    @abstractmethod
    def wrap(self, handler: Handler, method: str) -> Handler:
        """Wrap a unary handler.

        Args:
            handler: a grpc.RpcMethodHandler with `unary_unary`.
            method: full name, e.g. `/BookService/GetBookInfo`.

        Returns:
            The handler to use instead; it is kept.
        """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of a call; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or handler.unary_unary is None or not method.startswith(self._prefixes):
            return handler
        return self._wrapped(handler, method)
