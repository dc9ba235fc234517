"""A CLIENT span for as long as a stream lives."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable
from typing import Any

import grpc
from opentelemetry.trace import Span

from meshkit import deadline
from meshkit.client.deadline_channel import CallAround, IteratesByReading, checked
from meshkit.metrics.calls import MethodCalls
from meshkit.tracing import attributes as names
from meshkit.tracing.attributes import record_status
from meshkit.tracing.propagation import Headers

__all__ = ["traced_stream"]

# Seconds between two looks for a status.
STATUS_LOOK = 0.005


def traced_stream(
    kind: str,
    make_call: Callable[..., Any],
    start_span: Callable[[], Span],
    headers_of: Callable[[Span], Headers],
    attempts: MethodCalls | None = None,
) -> Callable[..., Any]:
    """Put a span around each call of a multi-callable.

    Args:
        kind: `unary_stream`, `stream_unary` or `stream_stream`.
        make_call: the multi-callable, of a plain channel.
        start_span: starts a call's span.
        headers_of: the headers that carry its context.
        attempts: counts the calls; None: nothing does.

    Returns:
        A multi-callable whose calls end at the current deadline at the latest.
    """
    call_class = _KINDS[kind]
    of_stream = kind != "unary_stream"

    # With a stream of requests all may be given by position.
    def traced(request: Any = None, timeout: float | None = None, metadata: Any = None, **options: Any) -> Any:
        span = start_span()
        life = _Life(span, attempts, one_answer=kind == "stream_unary")
        try:
            headers = headers_of(span)
            metadata = (*metadata, *headers) if metadata else headers
            if of_stream and request is not None:
                request = life.counted(request)
            call = make_call(request, timeout=deadline.bounded(timeout), metadata=metadata, **options)
        except BaseException as error:
            life.end(grpc.StatusCode.INTERNAL, repr(error))
            raise
        return call_class(call, life)

    return traced


class _Life:
    """A span, what its stream has carried so far, and how it has ended."""

    def __init__(self, span: Span, attempts: MethodCalls | None, *, one_answer: bool) -> None:
        self.sent = 0
        self.received = 0
        self.code = grpc.StatusCode.OK
        self.details = ""
        self.trailing_metadata: Any = grpc.aio.Metadata()
        self.ended = asyncio.Event()
        # Of an answer that cannot be decoded.
        self.failure: grpc.aio.AioRpcError | None = None
        self._span = span
        self._attempts = attempts
        self._begun = 0.0 if attempts is None else attempts.begin()
        self._one_answer = one_answer

    async def counted(self, requests: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
        if isinstance(requests, AsyncIterable):
            async for request in requests:
                yield request
                self.sent += 1
        else:
            for request in requests:
                yield request
                self.sent += 1

    def follow(self, call: Any) -> None:
        """End with the call."""
        call.add_done_callback(self._done)

    def _done(self, call: Any) -> None:
        # At once, as grpc.aio may replace the server's status with one of its own a moment later.
        code, details = _value_of(call.code()), _value_of(call.details())
        if is_provisional(code, details):
            self._ending = asyncio.ensure_future(self._wait_for_status(call))
            return
        self.trailing_metadata = _value_of(call.trailing_metadata())
        if self._one_answer and code is grpc.StatusCode.OK:
            self._ending = asyncio.ensure_future(self._end_with_answer(call))
        else:
            self.end(code, details)

    async def _wait_for_status(self, call: Any) -> None:
        # The server's comes once its answers have been read, and grpc.aio tells nobody.
        while not self.ended.is_set():
            if not is_provisional(_value_of(call.code()), _value_of(call.details())):
                return self._done(call)
            await asyncio.sleep(STATUS_LOOK)
        return None

    async def _end_with_answer(self, call: Any) -> None:
        try:
            checked(await call)
            self.received = 1
        except grpc.aio.AioRpcError as error:
            self.failure = error
        self.end(grpc.StatusCode.OK, "")

    def end(self, code: grpc.StatusCode, details: str) -> None:
        if self.ended.is_set():
            return
        if self.failure is not None:
            code, details = self.failure.code(), self.failure.details() or ""
        self.code, self.details = code, details
        if code is grpc.StatusCode.CANCELLED and deadline.passed():
            code, details = grpc.StatusCode.DEADLINE_EXCEEDED, ""
        self._span.set_attribute(names.MESSAGES_SENT, self.sent)
        self._span.set_attribute(names.MESSAGES_RECEIVED, self.received)
        record_status(self._span, code, details)
        self._span.end()
        if self._attempts is not None:
            self._attempts.end(code, self._begun, self._span)
        self.ended.set()


def _value_of(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that has nothing to wait for, as those for the status of a call that has one."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise AssertionError("a call that has ended has a status")


def is_provisional(code: grpc.StatusCode, details: str | None) -> bool:
    """Whether a status is the one that grpc.aio makes up until the server's is there.

    It does so where a request cannot be sent, as the server has ended the call already (`_write` in grpc/aio/_call.py).
    """
    return code is grpc.StatusCode.INTERNAL and details == "Internal error from Core"


class _TracedStream(CallAround):
    """What all streams have; see grpc.aio.Call.

    One that nobody holds any more is cancelled. gRPC means to do so, but holds on to it until it has ended.
    """

    def __init__(self, call: Any, life: _Life) -> None:
        super().__init__(call)
        self._life = life
        self._loop = asyncio.get_running_loop()
        life.follow(call)

    def __del__(self) -> None:
        if not self._life.ended.is_set():
            # Garbage may be collected in any thread, and after the loop's end.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_cancel, self._call, self._life)

    async def code(self) -> grpc.StatusCode:
        await self._life.ended.wait()
        return self._life.code

    async def details(self) -> str:
        await self._life.ended.wait()
        return self._life.details

    async def trailing_metadata(self) -> Any:
        await self._life.ended.wait()
        return self._life.trailing_metadata

    def cancel(self) -> bool:
        return _cancel(self._call, self._life)

    def cancelled(self) -> bool:
        return self._life.failure is None and self._call.cancelled()

    def done(self) -> bool:
        return self._life.ended.is_set()

    async def _raise_failure(self) -> None:
        """Wait for the end, and raise what the call has failed with, if it has."""
        code, details = await self.code(), await self.details()
        if code is grpc.StatusCode.OK:
            return
        if self.cancelled():
            raise asyncio.CancelledError
        nothing = grpc.aio.Metadata()
        raise grpc.aio.AioRpcError(code, nothing, self._life.trailing_metadata, details=details)


def _cancel(call: Any, life: _Life) -> bool:
    if call.cancel():
        return True
    if life.ended.is_set():
        return False
    # Over, but for answers that nobody will read any more.
    life.end(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
    return True


class _Reading(IteratesByReading, _TracedStream):
    """A stream of answers."""

    def __init__(self, call: Any, life: _Life) -> None:
        super().__init__(call, life)
        # Not its `read`, which gives no more answers once there is a status, be it a provisional one.
        self._answers = aiter(call)

    async def read(self) -> Any:
        try:
            message = await anext(self._answers)
        except StopAsyncIteration:
            return await self._end()
        except grpc.aio.AioRpcError as error:
            if is_provisional(error.code(), error.details()):
                return await self._end()
            raise
        try:
            checked(message)
        except grpc.aio.AioRpcError as error:
            self._life.failure = self._life.failure or error
            self._call.cancel()
            raise
        self._life.received += 1
        return message

    async def _end(self) -> Any:
        """EOF, unless the call has failed."""
        await self._raise_failure()
        return grpc.aio.EOF


class _Writing(_TracedStream):
    """A stream of requests."""

    async def write(self, request: Any) -> None:
        await self._call.write(request)
        self._life.sent += 1

    async def done_writing(self) -> None:
        await self._call.done_writing()


class _UnaryStream(_Reading, grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]
    """One request, a stream of answers."""


class _StreamStream(_Reading, _Writing, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]
    """Streams both ways."""


class _StreamUnary(_Writing, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]
    """A stream of requests, one answer."""

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return checked((yield from self._call.__await__()))
        except grpc.aio.AioRpcError as error:
            if not is_provisional(error.code(), error.details()):
                raise
        yield from self._raise_failure().__await__()
        return checked((yield from self._call.__await__()))


_KINDS = {"unary_stream": _UnaryStream, "stream_unary": _StreamUnary, "stream_stream": _StreamStream}
