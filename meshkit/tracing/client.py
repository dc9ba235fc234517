"""A CLIENT span around every unary call of a channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Tracer

from meshkit import deadline
from meshkit.address import parse_address
from meshkit.attempt import current_attempt
from meshkit.tracing import attributes as names
from meshkit.tracing.b3 import B3Propagator
from meshkit.tracing.spans import record_status, start_rpc_span

__all__ = ["TracingClientInterceptor"]

_propagator = B3Propagator()


class TracingClientInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Makes a CLIENT span an attempt and sends its context along in B3 headers.

    Parameters:
        tracer: makes the spans.
        instance: the `host:port` that the channel leads to: the span's remote endpoint.
    """

    def __init__(self, tracer: Tracer, instance: str) -> None:
        self._tracer = tracer
        host, port = parse_address(instance)
        self._server: dict[str, str | int] = {names.SERVER_ADDRESS: host, names.SERVER_PORT: port}

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """See grpc.aio.UnaryUnaryClientInterceptor."""
        method = client_call_details.method
        span = start_rpc_span(self._tracer, SpanKind.CLIENT, method.decode() if isinstance(method, bytes) else method)
        try:
            span.set_attributes(self._server)
            if attempt := current_attempt.get():
                span.set_attribute(names.ATTEMPT, attempt.number)
            headers: dict[str, str] = {}
            _propagator.inject(headers, trace.set_span_in_context(span))
            metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()), *headers.items())
            call = await continuation(client_call_details._replace(metadata=metadata), request)
            try:
                code = await call.code()
            except asyncio.CancelledError:
                call.cancel()
                # Cut off by the attempt's own time limit, or because nobody waits for the answer any more.
                late = deadline.remaining() == 0
                record_status(span, grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED, None)
                raise
            record_status(span, code, await call.details())
            return call
        finally:
            span.end()
