"""Endpoint middlewares on a gRPC server, and errors as gRPC statuses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import grpc

from meshkit.endpoint import Middleware
from meshkit.server.handlers import Handler, HandlerInterceptor
from meshkit.server.unary import guarded

__all__ = ["MiddlewareInterceptor"]


class MiddlewareInterceptor(HandlerInterceptor):
    """Runs unary calls through an endpoint middleware, under the deadline that the caller has set.

    Every failure gets a gRPC status, as `meshkit.server.unary.guarded` says.

    Args:
        middleware: e.g. `DelayingLimiter(bucket)`, or several as `chain(...)`; None: none.
        services: full names of the services it is for; others (health, reflection) pass untouched.
    """

    def __init__(self, middleware: Middleware[Any, Any] | None, services: Collection[str]) -> None:
        super().__init__(services)
        self._middleware = middleware

    def wrap(self, handler: Handler, method: str) -> Handler:
        """Put the middleware around a unary handler; leave streams as they are."""
        if handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(guarded(handler, method, self._middleware))
