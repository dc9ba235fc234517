"""A SERVER span around every unary call that a server handles."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import grpc
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer

from meshkit.server.handlers import Context, Handler, HandlerInterceptor
from meshkit.server.unary import Behavior, guarded
from meshkit.tracing.attributes import conventions_of, record_status
from meshkit.tracing.propagation import propagation_of

__all__ = ["TracingServerInterceptor"]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class TracingServerInterceptor(HandlerInterceptor):
    """Continues the caller's trace, or starts one, with a SERVER span for each unary call.

    Put it first among the interceptors, so that refusals by the others are seen. Within it the caller's deadline is in
    force, and every failure gets a gRPC status, as `meshkit.server.unary.guarded` says.

    Args:
        tracer: makes the spans.
        services: full names of the services to trace; others (health, reflection) pass untouched.
    """

    def __init__(self, tracer: Tracer, services: Collection[str]) -> None:
        super().__init__(services)
        self._tracer = tracer
        self._extracted = propagation_of(tracer).extracted

    def wrap(self, handler: Handler, method: str) -> Handler:
        """Put a span around a unary handler; leave streams as they are."""
        if handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(self._traced(guarded(handler, method), method))

    def _traced(self, behavior: Behavior, method: str) -> Behavior:
        name, attributes = method.lstrip("/"), conventions_of(self._tracer).call(method)

        async def traced(request: Any, context: Context) -> Any:
            caller = self._extracted(context.invocation_metadata())
            span = self._tracer.start_span(name, caller, SpanKind.SERVER, attributes)
            token = otel_context.attach(trace.set_span_in_context(span, caller))
            try:
                answer = await behavior(request, context)
            except asyncio.CancelledError:
                late = (left := context.time_remaining()) is not None and left <= 0
                record_status(span, grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED, None)
                raise
            except Exception as error:
                code = _status(context)
                if code is grpc.StatusCode.OK:  # Not an abort, which has left its code in the context.
                    record_status(span, grpc.StatusCode.UNKNOWN, f"{type(error).__name__}: {error}")
                else:
                    record_status(span, code, _details(context))
                raise
            else:
                record_status(span, _status(context), _details(context))
                return answer
            finally:
                otel_context.detach(token)
                span.end()

        return traced


def _status(context: Context) -> grpc.StatusCode:
    code: Any = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)


def _details(context: Context) -> str:
    details: Any = context.details()
    return details.decode(errors="replace") if isinstance(details, bytes) else details or ""
