"""A CLIENT span around every unary call of a channel."""

# ruff: noqa: D102 - documented where the interface is

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Any, Self

import grpc
from opentelemetry.trace import Span, SpanKind, Tracer

from meshkit import deadline
from meshkit.address import parse_address
from meshkit.attempt import current_attempt
from meshkit.tracing import attributes as names
from meshkit.tracing.attributes import record_status, rpc_attributes
from meshkit.tracing.propagation import propagation_of

__all__ = ["DeadlineChannel", "TracedChannel", "TracingClientInterceptor"]


class _ClientSpans:
    """Makes the spans of the calls to one instance."""

    def __init__(self, tracer: Tracer, instance: str) -> None:
        self._tracer = tracer
        self.headers_of = propagation_of(tracer).headers_of
        host, port = parse_address(instance)
        server: dict[str, str | int] = {names.SERVER_ADDRESS: host, names.SERVER_PORT: port}
        self._server = server
        self._of_method = lru_cache(self._name_and_attributes)

    def _name_and_attributes(self, method: str) -> tuple[str, dict[str, str | int]]:
        return method.lstrip("/"), {**rpc_attributes(method), **self._server}

    def start(self, method: str) -> Span:
        name, attributes = self._of_method(method)
        if attempt := current_attempt.get():
            attributes = {**attributes, names.ATTEMPT: attempt.number}
        return self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)


def _record_cancellation(span: Span) -> None:
    # Cut off by the attempt's own time limit, or because its caller no longer waits.
    late = deadline.passed()
    record_status(span, grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED, None)


class DeadlineChannel(grpc.aio.Channel):
    """A channel whose calls end at the current deadline at the latest, as `meshkit.deadline` knows it.

    So a call within a call is limited by the deadline of the outer one's caller, and the server is told that deadline.
    A unary answer that cannot be decoded fails the call with INTERNAL.

    Args:
        channel: makes the calls, and is closed with this.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **kwargs: Any
    ) -> Any:
        """Make a unary method's calls, under the deadline; this and the methods below are those of grpc.aio.Channel."""
        make_call = self._channel.unary_unary(method, request_serializer, _lenient(response_deserializer), **kwargs)

        def call(request: Any, *, timeout: float | None = None, **options: Any) -> _CheckedCall:
            return _CheckedCall(make_call(request, timeout=deadline.bounded(timeout), **options))

        return call

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _on_time(self._channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _on_time(self._channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _on_time(self._channel.stream_stream(*args, **kwargs))

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._channel.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _on_time(make_call: Any) -> Callable[..., Any]:
    def call(*requests: Any, timeout: float | None = None, **options: Any) -> Any:
        return make_call(*requests, timeout=deadline.bounded(timeout), **options)

    return call


def _lenient(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Decode to None what cannot be decoded, as grpc.aio does, but without a traceback in the log."""
    if deserialize is None:
        return None

    def decode(message: bytes) -> Any:
        try:
            return deserialize(message)
        except Exception:  # noqa: BLE001 - whatever a decoder raises, RecursionError included
            return None

    return decode


def _checked(answer: Any) -> Any:
    """The answer, unless it could not be decoded: grpc.aio gives None with the status OK."""
    if answer is None:
        nothing = grpc.aio.Metadata()
        details = "the answer cannot be decoded"
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, details=details)
    return answer


class TracedChannel(DeadlineChannel):
    """A channel whose unary calls each make a CLIENT span and send its context along in headers, B3's by default.

    Deadlines and answers that cannot be decoded: as `DeadlineChannel`.

    It does what TracingClientInterceptor does for a fraction of the cost: grpc.aio runs a call that has interceptors
    in a task of its own, on top of the task that the call itself is.

    Args:
        channel: makes the calls, and is closed with this.
        tracer: makes the spans.
        instance: the `host:port` that the channel leads to: the spans' remote endpoint.
    """

    def __init__(self, channel: grpc.aio.Channel, tracer: Tracer, instance: str) -> None:
        super().__init__(channel)
        self._spans = _ClientSpans(tracer, instance)

    def unary_unary(
        self, method: str, request_serializer: Any = None, response_deserializer: Any = None, **kwargs: Any
    ) -> Any:
        """Make a unary method's calls, each with a span (grpc.aio.Channel)."""
        make_call = self._channel.unary_unary(method, request_serializer, _lenient(response_deserializer), **kwargs)
        spans = self._spans

        def traced(request: Any, *, timeout: float | None = None, metadata: Any = None, **options: Any) -> _TracedCall:
            span = spans.start(method)
            try:
                headers = spans.headers_of(span)
                metadata = (*metadata, *headers) if metadata else headers
                call = make_call(request, timeout=deadline.bounded(timeout), metadata=metadata, **options)
            except BaseException as error:
                record_status(span, grpc.StatusCode.INTERNAL, repr(error))
                span.end()
                raise
            return _TracedCall(call, span)

        return traced


class _CheckedCall(grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """A call that fails with INTERNAL when its answer cannot be decoded."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, None, Any]:
        """The answer; see grpc.aio.UnaryUnaryCall, as for the methods below."""
        return _checked((yield from self._call.__await__()))

    async def code(self) -> grpc.StatusCode:
        return await self._call.code()  # type: ignore[no-any-return]

    async def details(self) -> str:
        return await self._call.details()  # type: ignore[no-any-return]

    async def initial_metadata(self) -> Any:
        return await self._call.initial_metadata()

    async def trailing_metadata(self) -> Any:
        return await self._call.trailing_metadata()

    async def wait_for_connection(self) -> None:
        await self._call.wait_for_connection()

    def cancel(self) -> bool:
        return self._call.cancel()  # type: ignore[no-any-return]

    def cancelled(self) -> bool:
        return self._call.cancelled()  # type: ignore[no-any-return]

    def done(self) -> bool:
        return self._call.done()  # type: ignore[no-any-return]

    def time_remaining(self) -> float | None:
        return self._call.time_remaining()  # type: ignore[no-any-return]

    def add_done_callback(self, callback: Any) -> None:
        self._call.add_done_callback(lambda _: callback(self))


class _TracedCall(_CheckedCall):
    """A call whose span ends with it."""

    def __init__(self, call: Any, span: Span) -> None:
        super().__init__(call)
        self._span: Span | None = span
        self._awaited = False
        call.add_done_callback(self._done)

    def __await__(self) -> Generator[Any, None, Any]:
        self._awaited = True
        span, self._span = self._span, None
        if span is None:
            return _checked((yield from self._call.__await__()))
        try:
            answer = _checked((yield from self._call.__await__()))
        except asyncio.CancelledError:
            _record_cancellation(span)
            raise
        except grpc.aio.AioRpcError as error:
            record_status(span, error.code(), error.details())
            raise
        else:
            record_status(span, grpc.StatusCode.OK, None)
            return answer
        finally:
            span.end()

    def _done(self, _: object) -> None:
        # A caller that does not await the answer asks for the status, if for anything.
        if not self._awaited and self._span is not None:
            span, self._span = self._span, None
            self._ending = asyncio.ensure_future(self._end(span))

    async def _end(self, span: Span) -> None:
        record_status(span, await self._call.code(), await self._call.details())
        span.end()


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
                    _checked(await call)
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
