"""The call objects of streams on a mesh channel."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from typing import Any
from weakref import ref

import grpc

from meshkit.client.calls import CallHandle, UnaryCall
from meshkit.client.deadline_channel import IteratesByReading
from meshkit.client.requests import Requests
from meshkit.client.streams import NOTHING, OutgoingStream

__all__ = ["CALLS"]


class _StreamCall(CallHandle):
    """What the call objects of streams have.

    One that its caller forgets is cancelled, unless it ends on its own: as it has an iterator of requests, and one
    answer.
    """

    _outgoing: OutgoingStream

    def __init__(self, outgoing: OutgoingStream) -> None:
        super().__init__(outgoing)
        self._loop = asyncio.get_running_loop()

    def __del__(self) -> None:
        call = self._outgoing
        if not call.task.done() and not (call.method.kind == "stream_unary" and call.source is not None):
            # Garbage may be collected in any thread, and after the loop's end.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(call.task.cancel)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        # The task must not hold on to the object.
        handle = ref(self)

        def tell(_: object) -> None:
            if (call := handle()) is not None:
                callback(call)

        self._outgoing.task.add_done_callback(tell)

    async def _raise_end(self) -> None:
        """Raise what the call has ended with, if it has failed."""
        await self._ended()
        if self.cancelled():
            raise asyncio.CancelledError
        if self._outgoing.error is not None:
            raise self._outgoing.error


class _Reading(IteratesByReading, _StreamCall):
    """A stream of answers: read it, or iterate over it."""

    async def read(self) -> Any:
        """The next answer, or `grpc.aio.EOF`.

        Raises:
            CallError: the call failed.
        """
        call = self._outgoing
        try:
            if call.stream is None:
                await call.opened.wait()
            if call.first is not NOTHING:
                message, call.first = call.first, NOTHING
            elif call.stream is None:
                message = grpc.aio.EOF
            else:
                message = await call.stream.read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                # As with grpc.aio, cancelling a task that reads cancels the call.
                self.cancel()
                raise
            message = grpc.aio.EOF
        except grpc.aio.AioRpcError:
            message = grpc.aio.EOF
        if message is grpc.aio.EOF:
            await self._raise_end()
        return message


class _Writing(_StreamCall):
    """A stream of requests: given as an iterator, or written one by one."""

    async def write(self, request: Any) -> None:
        """Send a request.

        Raises:
            grpc.aio.UsageError: the requests are an iterator.
            asyncio.InvalidStateError: the call has ended, or `done_writing` has been called.
            CallError: the call failed.
        """
        requests = self._written()
        if requests.complete or self._outgoing.over:
            await self._raise_end_if_done()
            raise asyncio.InvalidStateError("no more requests can be written: the call is over, or done_writing called")
        try:
            await requests.put(request)
        except asyncio.CancelledError:
            # As with grpc.aio.
            self.cancel()
            raise
        await self._raise_end_if_done()

    async def done_writing(self) -> None:
        """Tell the server that there are no more."""
        self._written().end()

    def _written(self) -> Requests:
        requests = self._outgoing.requests
        if requests is None or self._outgoing.source is not None:
            raise grpc.aio.UsageError("the requests of this call are an iterator: none can be written")
        return requests

    async def _raise_end_if_done(self) -> None:
        if self._outgoing.over:
            await self._raise_end()


class _UnaryStreamCall(_Reading, grpc.aio.UnaryStreamCall):  # type: ignore[type-arg]
    """One request, a stream of answers."""


class _StreamStreamCall(_Reading, _Writing, grpc.aio.StreamStreamCall):  # type: ignore[type-arg]
    """Streams both ways."""


class _StreamUnaryCall(_Writing, grpc.aio.StreamUnaryCall):  # type: ignore[type-arg]
    """A stream of requests, one answer."""

    def __await__(self) -> Generator[Any, None, Any]:
        return UnaryCall.__await__(self)  # type: ignore[arg-type]


# By the kind of method.
CALLS: dict[str, Callable[[Any], Any]] = {
    "unary_unary": UnaryCall,
    "unary_stream": _UnaryStreamCall,
    "stream_unary": _StreamUnaryCall,
    "stream_stream": _StreamStreamCall,
}
