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

    A MeshError that passes becomes its gRPC status, with its text as details.

    Parameters:
        middleware: e.g. `DelayingLimiter(bucket)`, or several as `chain(...)`.
        services: full names of the services it is for; others (health, reflection) pass untouched.
    """

    def __init__(self, middleware: Middleware[Any, Any] | None, services: Collection[str]) -> None:
        self._middleware = middleware
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
        return grpc.unary_unary_rpc_method_handler(
            self._guarded(handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guarded(self, behavior: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        middleware = self._middleware

        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async def endpoint(request: Any) -> Any:
                return await behavior(request, context)

            try:
                async with deadline.within(context.time_remaining()):
                    return await (middleware(endpoint) if middleware else endpoint)(request)
            except MeshError as error:
                await context.abort(error.code, str(error))

        return guarded
