"""How a server's interceptors wrap the handlers of its services: each handler once, not at every call."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from typing import Any

import grpc
import structlog

__all__ = ["Context", "Handler", "HandlerInterceptor", "is_async", "kind_of", "over_bytes"]

log = structlog.stdlib.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
# grpc.RpcMethodHandler, whose fields its type stubs leave out.
Handler = Any
# Wrapped handlers that are kept. A limit, as a generic handler may answer any method that a client names.
KEPT_METHODS = 1024


class HandlerInterceptor(grpc.aio.ServerInterceptor):
    """Base of interceptors that replace handlers, of any of the four kinds of method.

    Args:
        services: full names of the services whose handlers are wrapped; the others pass untouched. Default None: all,
            health and reflection included.
    """

    def __init__(self, services: Collection[str] | None = None) -> None:
        self.services = None if services is None else frozenset(services)
        self._prefixes = ("",) if services is None else tuple(f"/{service}/" for service in services)
        self._wrapped = lru_cache(KEPT_METHODS)(self.wrap)

    @abstractmethod
    def wrap(self, handler: Handler, method: str) -> Handler:
        """Wrap a handler.

        Args:
            handler: a grpc.RpcMethodHandler; `kind_of` tells which of its four functions it has.
            method: full name, e.g. `/BookService/GetBookInfo`.

        Returns:
            The handler to use instead, which is kept; or the same one, to leave it as it is.
        """

    def unknown(self, method: str) -> None:
        """A call of a method that the server does not have; nothing to do but to count it, for who wants to."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler of a call; gRPC asks at each call (grpc.aio.ServerInterceptor)."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            self.unknown(method)
        if handler is None or not method.startswith(self._prefixes):
            return handler
        return self._wrapped(handler, method)


def kind_of(handler: Handler) -> str:
    """The field that holds a handler's function: `unary_unary`, `unary_stream`, `stream_unary` or `stream_stream`."""
    request = "stream" if handler.request_streaming else "unary"
    answer = "stream" if handler.response_streaming else "unary"
    return f"{request}_{answer}"


def is_async(handler: Handler, method: str) -> bool:
    """Whether a handler is async; where not it is logged. gRPC runs it in a thread, where nothing can be around it."""
    behavior = getattr(handler, kind_of(handler))
    if inspect.iscoroutinefunction(behavior) or inspect.isasyncgenfunction(behavior):
        return True
    log.warning("handler is not async", method=method)
    return False


def over_bytes(handler: Handler, behavior: Any) -> Handler:
    """A handler of the same kind with another function, which takes and gives bytes."""
    return handler._replace(request_deserializer=None, response_serializer=None, **{kind_of(handler): behavior})
