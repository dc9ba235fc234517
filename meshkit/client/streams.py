"""Streams through the mesh: one pick a stream, in flight for as long as it lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from typing import Any

import grpc

from meshkit import deadline
from meshkit.attempt import current_attempt
from meshkit.client.call_error import CallError
from meshkit.client.outgoing import Method, Outgoing, unsendable
from meshkit.client.requests import Requests

__all__ = ["NOTHING", "BrokenStreamError", "OutgoingStream"]

# Where there is no message, or none any more.
NOTHING: Any = object()


class BrokenStreamError(grpc.aio.AioRpcError):
    """A stream failed after its first message: it counts against the instance and cannot be retried."""


class OutgoingStream(Outgoing):
    """A call on its way through the mesh whose requests, answers or both are a stream.

    An attempt lasts until the stream has ended, so that the instance, its breaker and those of the call know of it for
    its whole life. Once the first answer is there, no other attempt is made.

    Args:
        method: what is called.
        request: the only one, or an iterator of many; None where they are written one by one.
        timeout: see `Outgoing`, as for the others.
    """

    def __init__(
        self,
        method: Method,
        request: Any,
        *,
        timeout: float | None,
        ready: Callable[[], Any] | None,
        options: dict[str, Any],
    ) -> None:
        self.requests = Requests(method.encode) if method.kind.startswith("stream") else None
        self.source = request if self.requests is not None else None
        super().__init__(method, request, timeout=timeout, ready=ready, options=options)
        # The stream that gives the answers, and the first of them. Set once no other attempt can be made.
        self.stream: Any = None
        self.first: Any = NOTHING
        self.opened = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    def _encoded(self, request: Any) -> Any:
        return None if self.requests is not None else super()._encoded(request)

    @property
    def over(self) -> bool:
        """Whether it has ended, or is about to."""
        return self.requests is not None and self.requests.closed

    async def _run(self, tracer: Any) -> None:
        if self.requests is not None and self.source is not None:
            self._pump = asyncio.create_task(self._take_requests(self.requests, self.source))
        try:
            await super()._run(tracer)
        finally:
            self.opened.set()
            if self.requests is not None:
                self.requests.close()
            if self._pump is not None:
                self._pump.cancel()

    async def _take_requests(self, requests: Requests, source: AsyncIterable[Any] | Iterable[Any]) -> None:
        try:
            await requests.take_from(source)
        except Exception as error:  # noqa: BLE001 - the iterator is the caller's: whatever it raises
            # grpc.aio cancels the call without a word.
            details = f"the requests ended by {type(error).__name__}: {error}"
            failure = CallError(grpc.StatusCode.CANCELLED, details=details)
            failure.__cause__ = error
            self.fail(failure)

    async def attempt(self, make_call: Any) -> Any:
        """Make one attempt, with a multi-callable to one instance; see `Outgoing.attempt`."""
        request = self._message if self.requests is None else self.requests.messages()
        try:
            self.attempted = call = make_call(request, **self._options)
        except Exception as error:
            raise unsendable(error) from error
        try:
            return await (call if self.method.kind == "stream_unary" else self._answers(call))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if self._repeatable or task is None or task.cancelling():
                raise
            raise broken(grpc.StatusCode.UNAVAILABLE, "the stream was cut off: its channel was closed") from error
        except grpc.aio.AioRpcError as error:
            if self._repeatable:
                raise
            raise broken(error.code(), error.details() or "", error.trailing_metadata()) from error
        finally:
            # Whatever ended the attempt, nobody reads on.
            if not call.done():
                call.cancel()
            if self.requests is not None:
                self.requests.stop()

    @property
    def _repeatable(self) -> bool:
        """Whether another attempt would do: nothing of this one has been seen, and all requests are still there."""
        return self.stream is None and (self.requests is None or self.requests.repeatable)

    async def _answers(self, call: Any) -> None:
        first = await call.read()
        if self.requests is not None:
            self.requests.keep_no_more()
        self.first, self.stream = first, call
        self.opened.set()
        try:
            code = await call.code()
        except asyncio.CancelledError:
            if not deadline.passed():
                raise
            code = grpc.StatusCode.DEADLINE_EXCEEDED
        if code is grpc.StatusCode.DEADLINE_EXCEEDED and deadline.passed():
            self._end_late()
        elif call.cancelled():
            raise asyncio.CancelledError
        elif code is not grpc.StatusCode.OK:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(code, nothing, await call.trailing_metadata(), details=await call.details())

    def _end_late(self) -> None:
        # The caller's deadline in the middle of a stream that works says nothing of the instance.
        attempt = current_attempt.get()
        instance = f" from {attempt.instance}" if attempt else ""
        self.error = CallError(
            grpc.StatusCode.DEADLINE_EXCEEDED,
            details="deadline exceeded",
            text=f"deadline exceeded in the middle of the stream{instance}",
        )


def broken(code: grpc.StatusCode, details: str, trailing_metadata: Any = None) -> BrokenStreamError:
    """Make the error of a stream that cannot be retried."""
    nothing = grpc.aio.Metadata()
    return BrokenStreamError(code, nothing, trailing_metadata or nothing, details=details)
