"""Endpoint middlewares on a gRPC server, and mesh errors as gRPC statuses."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import grpc

from meshkit import deadline
from meshkit.endpoint import Middleware
from meshkit.errors import MeshError
from meshkit.server.unary import Behavior, Handler, UnaryInterceptor

__all__ = ["MiddlewareInterceptor"]


class MiddlewareInterceptor(UnaryInterceptor):
    """Runs unary calls through an endpoint middleware, under the deadline that the caller has set.

    A MeshError that passes becomes its gRPC status, with its text as details. A request that cannot be decoded is
    INTERNAL, as in other languages' gRPC, where grpc.aio would answer UNKNOWN and log a traceback.

    Args:
        middleware: e.g. `DelayingLimiter(bucket)`, or several as `chain(...)`.
        services: full names of the services it is for; others (health, reflection) pass untouched.
    """

    def __init__(self, middleware: Middleware[Any, Any] | None, services: Collection[str]) -> None:
        super().__init__(services)
        self._middleware = middleware

    def wrap(self, handler: Handler, method: str) -> Handler:  # noqa: ARG002 - the same for all methods
        """See `UnaryInterceptor.wrap`."""
        return grpc.unary_unary_rpc_method_handler(
            self._guarded(handler.unary_unary, handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _guarded(self, behavior: Behavior, deserialize: Callable[[bytes], Any] | None) -> Behavior:
        middleware = self._middleware

        async def guarded(message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            try:
                request = deserialize(message) if deserialize else message
            except Exception as error:  # noqa: BLE001 - whatever a decoder raises, RecursionError included
                await context.abort(grpc.StatusCode.INTERNAL, f"malformed request: {type(error).__name__}")

            async def endpoint(request: Any) -> Any:
                return await behavior(request, context)

            deadline.inherit(context.time_remaining())
            try:
                return await (middleware(endpoint) if middleware else endpoint)(request)
            except MeshError as error:
                await context.abort(error.code, str(error))

        return guarded
