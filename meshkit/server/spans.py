"""A SERVER span around every call that a server handles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer

from meshkit.metrics.calls import ServerMetrics
from meshkit.server.handlers import Context, Handler, HandlerInterceptor, is_async, over_bytes
from meshkit.server.streams import guarded_handler
from meshkit.server.unary import Behavior
from meshkit.tracing import attributes as names
from meshkit.tracing.attributes import conventions_of, record_status
from meshkit.tracing.propagation import propagation_of

__all__ = ["TracingServerInterceptor"]

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class TracingServerInterceptor(HandlerInterceptor):
    """Continues the caller's trace, or starts one, with a SERVER span for each call; a stream's counts its messages.

    Put it first among the interceptors, so that refusals by the others are seen. Within it the caller's deadline is in
    force, and every failure gets a gRPC status, as `meshkit.server.unary.guarded` says.

    Args:
        tracer: makes the spans.
        services: full names of the services to trace; others (health, reflection) pass untouched.
        metrics: counts the calls of those services, and those of methods that nobody has. Default: none.
    """

    def __init__(self, tracer: Tracer, services: Collection[str], metrics: ServerMetrics | None = None) -> None:
        super().__init__(services)
        self._metrics = metrics
        self._tracer = tracer
        self._extracted = propagation_of(tracer).extracted

    def wrap(self, handler: Handler, method: str) -> Handler:
        """Put a span around a handler of any kind."""
        if not is_async(handler, method):
            return handler
        behavior = guarded_handler(handler, method)
        if handler.request_streaming or handler.response_streaming:
            behavior = _counting(behavior, handler)
        return over_bytes(handler, self._traced(behavior, method))

    def unknown(self, method: str) -> None:  # noqa: ARG002 - there may be any number of names
        """Count a call of a method that there is not."""
        if self._metrics is not None:
            self._metrics.unknown()

    def _traced(self, behavior: Behavior, method: str) -> Behavior:
        calls = None if self._metrics is None else self._metrics.calls_of(method)
        name, attributes = method.lstrip("/"), conventions_of(self._tracer).call(method)

        async def traced(request: Any, context: Context) -> Any:
            begun, code = 0.0 if calls is None else calls.begin(), grpc.StatusCode.CANCELLED
            caller = self._extracted(context.invocation_metadata())
            span = self._tracer.start_span(name, caller, SpanKind.SERVER, attributes)
            token = otel_context.attach(trace.set_span_in_context(span, caller))
            try:
                answer = await behavior(request, context)
            except asyncio.CancelledError:
                if (left := context.time_remaining()) is not None and left <= 0:
                    code = grpc.StatusCode.DEADLINE_EXCEEDED
                record_status(span, code, None)
                raise
            except Exception as error:
                code = _status(context)
                if code is grpc.StatusCode.OK:  # Not an abort, which has left its code in the context.
                    code = grpc.StatusCode.UNKNOWN
                    record_status(span, code, f"{type(error).__name__}: {error}")
                else:
                    record_status(span, code, _details(context))
                raise
            else:
                code = _status(context)
                record_status(span, code, _details(context))
                return answer
            finally:
                otel_context.detach(token)
                span.end()
                if calls is not None:
                    calls.end(code, begun, span)

        return traced


def _counting(behavior: Behavior, handler: Handler) -> Behavior:
    """Tag the current span with the number of a stream's messages."""

    async def counting(request: Any, context: Context) -> Any:
        counts: Any = _Counts(context)
        try:
            answer = await behavior(counts.counted(request) if handler.request_streaming else request, counts)
            counts.sent += not handler.response_streaming
            return answer
        finally:
            span = trace.get_current_span()
            span.set_attribute(names.MESSAGES_SENT, counts.sent)
            span.set_attribute(names.MESSAGES_RECEIVED, counts.received + (not handler.request_streaming))

    return counting


class _Counts:
    """A call's context that counts messages."""

    def __init__(self, context: Context) -> None:
        self.sent = 0
        self.received = 0
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def counted(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            self.received += 1
            yield request

    async def read(self) -> Any:
        message: Any = await self._context.read()
        self.received += message is not grpc.aio.EOF
        return message

    async def write(self, answer: Any) -> None:
        await self._context.write(answer)
        self.sent += 1


def _status(context: Context) -> grpc.StatusCode:
    code: Any = context.code()
    return code if isinstance(code, grpc.StatusCode) else _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)


def _details(context: Context) -> str:
    details: Any = context.details()
    return details.decode(errors="replace") if isinstance(details, bytes) else details or ""
