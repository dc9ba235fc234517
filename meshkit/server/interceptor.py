"""Endpoint middlewares on a gRPC server, and errors as gRPC statuses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from meshkit.endpoint import Middleware
from meshkit.server.handlers import Handler, HandlerInterceptor, is_async, over_bytes
from meshkit.server.streams import guarded_handler

__all__ = ["MiddlewareInterceptor"]


class MiddlewareInterceptor(HandlerInterceptor):
    """Runs calls through an endpoint middleware, under the deadline that the caller has set.

    Every failure gets a gRPC status, as `meshkit.server.unary.guarded` says.

    Args:
        middleware: e.g. `DelayingLimiter(bucket)`, or several as `chain(...)`; None: none.
        services: full names of the services it is for; others (health, reflection) pass untouched.
    """

    def __init__(self, middleware: Middleware[Any, Any] | None, services: Collection[str]) -> None:
        super().__init__(services)
        self._middleware = middleware

    def wrap(self, handler: Handler, method: str) -> Handler:
        """Put the middleware around a handler of any kind."""
        if not is_async(handler, method):
            return handler
        return over_bytes(handler, guarded_handler(handler, method, self._middleware))
