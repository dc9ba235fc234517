"""Endpoint middlewares on a gRPC server, and mesh errors as gRPC statuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import grpc

from meshkit import deadline
from meshkit.endpoint import Middleware
from meshkit.errors import MeshError

__all__ = ["MiddlewareInterceptor"]

Handler = Any


class MiddlewareInterceptor(grpc.aio.ServerInterceptor):
    """Runs unary calls through an endpoint middleware, under the deadline that the caller has set.

    A MeshError that passes becomes its gRPC status, with its text as details. A request that cannot be decoded is
    INTERNAL, as in other languages' gRPC, where grpc.aio would answer UNKNOWN and log a traceback.

    Parameters:
        middleware: e.g. `DelayingLimiter(bucket)`, or several as `chain(...)`.
        services: full names of the services it is for; others (health, reflection) pass untouched.
    """

    def __init__(self, middleware: Middleware[Any, Any] | None, services: Collection[str]) -> None:
        self._middleware = middleware
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}
        self._prefixes = tuple(f"/{service}/" for service in services)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler; see grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        if not handler_call_details.method.startswith(self._prefixes):
            return handler
        known = self._wrapped.get(handler_call_details.method)
        if known is None or known[0] is not handler:
            wrapped: Handler = grpc.unary_unary_rpc_method_handler(
                self._guarded(handler.unary_unary, handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
            known = self._wrapped[handler_call_details.method] = handler, wrapped
        return known[1]

    def _guarded(
        self, behavior: Callable[[Any, Any], Awaitable[Any]], deserialize: Callable[[bytes], Any] | None
    ) -> Callable[[Any, Any], Awaitable[Any]]:
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
