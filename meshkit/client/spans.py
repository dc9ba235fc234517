"""A CLIENT span around every call of a channel."""

# ruff: noqa: D102 - documented where the interface is

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Any

import grpc
from opentelemetry.trace import Span, SpanKind, Tracer

from meshkit import deadline
from meshkit.address import parse_address
from meshkit.attempt import current_attempt, repetition
from meshkit.client.deadline_channel import CheckedCall, DeadlineChannel, checked, lenient
from meshkit.client.traced_stream import traced_stream
from meshkit.metrics.calls import ClientMetrics, MethodCalls
from meshkit.tracing import attributes as names
from meshkit.tracing.attributes import conventions_of, record_status
from meshkit.tracing.propagation import Headers, propagation_of

__all__ = ["TracedChannel", "TracingClientInterceptor"]


class _ClientSpans:
    """Makes the spans of the calls to one instance."""

    def __init__(self, tracer: Tracer, instance: str) -> None:
        self._tracer = tracer
        self._context_of = propagation_of(tracer).headers_of
        host, port = parse_address(instance)
        self._conventions = conventions_of(tracer)
        self._server = self._conventions.server(host, port)
        self._of_method = lru_cache(self._name_and_attributes)

    def headers_of(self, span: Span) -> Headers:
        again = repetition()
        return (*self._context_of(span), *again) if again else self._context_of(span)

    def _name_and_attributes(self, method: str) -> tuple[str, dict[str, str | int]]:
        return method.lstrip("/"), {**self._conventions.call(method), **self._server}

    def start(self, method: str) -> Span:
        name, attributes = self._of_method(method)
        if attempt := current_attempt.get():
            attributes = {**attributes, names.ATTEMPT: attempt.number}
        return self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)


def _record_cancellation(span: Span) -> grpc.StatusCode:
    # Cut off by the attempt's own time limit, or because its caller no longer waits.
    code = grpc.StatusCode.DEADLINE_EXCEEDED if deadline.passed() else grpc.StatusCode.CANCELLED
    record_status(span, code, None)
    return code


class TracedChannel(DeadlineChannel):
    """A channel whose calls each make a CLIENT span and send its context along in headers, B3's by default.

    Deadlines and answers that cannot be decoded: as `DeadlineChannel`. A stream's span ends with it, and counts its
    messages.

    It does what TracingClientInterceptor does for a fraction of the cost: grpc.aio runs a call that has interceptors
    in a task of its own, on top of the task that the call itself is.

    Args:
        channel: makes the calls, and is closed with this.
        tracer: makes the spans.
        instance: the `host:port` that the channel leads to: the spans' remote endpoint.
        metrics: counts the calls, as attempts at the instance. Default: none.
    """

    def __init__(
        self, channel: grpc.aio.Channel, tracer: Tracer, instance: str, metrics: ClientMetrics | None = None
    ) -> None:
        super().__init__(channel)
        self._spans = _ClientSpans(tracer, instance)
        self._instance = instance
        self._metrics = metrics

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **kwargs: Any
    ) -> Any:
        """Make a unary method's calls, each with a span (grpc.aio.Channel)."""
        make_call = self._channel.unary_unary(method, request_serializer, lenient(response_deserializer), **kwargs)
        spans, attempts = self._spans, self._attempts(method)

        def traced(request: Any, *, timeout: float | None = None, metadata: Any = None, **options: Any) -> _TracedCall:
            begun = 0.0 if attempts is None else attempts.begin()
            span = spans.start(method)
            try:
                headers = spans.headers_of(span)
                metadata = (*metadata, *headers) if metadata else headers
                call = make_call(request, timeout=deadline.bounded(timeout), metadata=metadata, **options)
            except BaseException as error:
                record_status(span, grpc.StatusCode.INTERNAL, repr(error))
                span.end()
                if attempts is not None:
                    attempts.end(grpc.StatusCode.INTERNAL, begun, span)
                raise
            return _TracedCall(call, span, attempts, begun)

        return traced

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Make calls that stream, each with a span for as long as it lives; as the methods below."""
        return self._traced_stream("unary_stream", method, *args, **kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._traced_stream("stream_unary", method, *args, **kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._traced_stream("stream_stream", method, *args, **kwargs)

    def _traced_stream(
        self,
        kind: str,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        **kwargs: Any,
    ) -> Any:
        make_call = getattr(self._channel, kind)(method, request_serializer, lenient(response_deserializer), **kwargs)
        attempts = self._attempts(method)
        return traced_stream(kind, make_call, lambda: self._spans.start(method), self._spans.headers_of, attempts)

    def _attempts(self, method: str) -> MethodCalls | None:
        return None if self._metrics is None else self._metrics.attempts_at(self._instance, method)


class _TracedCall(CheckedCall):
    """A call whose span ends with it."""

    def __init__(self, call: Any, span: Span, attempts: MethodCalls | None, begun: float) -> None:
        super().__init__(call)
        self._span: Span | None = span
        self._attempts = attempts
        self._begun = begun
        self._awaited = False
        call.add_done_callback(self._done)

    def __await__(self) -> Generator[Any, None, Any]:
        self._awaited = True
        span, self._span = self._span, None
        if span is None:
            return checked((yield from self._call.__await__()))
        code = grpc.StatusCode.CANCELLED
        try:
            answer = checked((yield from self._call.__await__()))
        except asyncio.CancelledError:
            code = _record_cancellation(span)
            raise
        except grpc.aio.AioRpcError as error:
            code = error.code()
            record_status(span, code, error.details())
            raise
        else:
            code = grpc.StatusCode.OK
            record_status(span, code, None)
            return answer
        finally:
            span.end()
            if self._attempts is not None:
                self._attempts.end(code, self._begun, span)

    def _done(self, _: object) -> None:
        # A caller that does not await the answer asks for the status, if for anything.
        if not self._awaited and self._span is not None:
            span, self._span = self._span, None
            self._ending = asyncio.ensure_future(self._end(span))

    async def _end(self, span: Span) -> None:
        code = await self._call.code()
        record_status(span, code, await self._call.details())
        span.end()
        if self._attempts is not None:
            self._attempts.end(code, self._begun, span)


class TracingClientInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    """Makes a CLIENT span an attempt, sends its context along in headers, and bounds it by the current deadline.

    For channels that are made elsewhere; `TracedChannel` costs less.

    Args:
        tracer: makes the spans.
        instance: the `host:port` that the channel leads to: the span's remote endpoint.
    """

    def __init__(self, tracer: Tracer, instance: str) -> None:
        self._spans = _ClientSpans(tracer, instance)

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """Make a span around one attempt (grpc.aio.UnaryUnaryClientInterceptor)."""
        method = client_call_details.method
        span = self._spans.start(method.decode() if isinstance(method, bytes) else method)
        try:
            metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()), *self._spans.headers_of(span))
            timeout = deadline.bounded(client_call_details.timeout)
            call = await continuation(client_call_details._replace(metadata=metadata, timeout=timeout), request)
            try:
                code, details = await call.code(), await call.details()
                if code is grpc.StatusCode.OK:
                    checked(await call)
            except asyncio.CancelledError:
                call.cancel()
                _record_cancellation(span)
                raise
            except grpc.aio.AioRpcError as error:
                record_status(span, error.code(), error.details())
                raise
            record_status(span, code, details)
            return call
        finally:
            span.end()
