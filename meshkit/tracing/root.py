"""The span of a whole call, over all its attempts."""

from __future__ import annotations

from types import TracebackType

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, Tracer

from meshkit.errors import status_of
from meshkit.tracing.attributes import record_status

__all__ = ["root_span", "trace_id_of"]


class root_span:  # noqa: N801 - reads as the statement that it is: `with root_span(tracer, "call") as span:`
    """Make a span, by itself or under the current one, for a whole call: all its attempts, or its refusal.

    An error that leaves the body becomes the span's `error`, and its gRPC status a tag. So a call that an open breaker
    refused, or for which no instance was known, also has a trace.
    """

    def __init__(self, tracer: Tracer, name: str) -> None:
        self._tracer = tracer
        self._name = name

    def __enter__(self) -> Span:
        """Start it, and make it the current one."""
        self._span = self._tracer.start_span(self._name)
        self._token = otel_context.attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End it."""
        if isinstance(error, Exception):
            record_status(self._span, status_of(error), str(error))
        otel_context.detach(self._token)
        self._span.end()


def trace_id_of(span: Span) -> str:
    """The trace id as Zipkin shows it: 32 hexadecimal digits, 16 where the caller sent a 64-bit one; "" without one."""
    trace_id = span.get_span_context().trace_id
    if not trace_id:
        return ""
    return f"{trace_id:0{32 if trace_id >> 64 else 16}x}"
