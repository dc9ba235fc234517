"""The call objects of a mesh channel: what a stub's caller holds, as gRPC's own of `grpc.aio`."""

# ruff: noqa: D102 - documented where the interface is

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import grpc

from meshkit.client.call_error import CallError
from meshkit.client.outgoing import Outgoing

__all__ = ["CallHandle", "UnaryCall"]


class CallHandle(grpc.aio.Call):
    """What the objects of all four kinds of call have; see grpc.aio.Call.

    Metadata are those of the last attempt. Status and details are those that its error has, or OK.
    """

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    async def initial_metadata(self) -> grpc.aio.Metadata:
        await self._ended()
        error, attempted = self._outgoing.error, self._outgoing.attempted
        if error is not None:
            return error.initial_metadata() or grpc.aio.Metadata()
        return grpc.aio.Metadata() if attempted is None else await attempted.initial_metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        await self._ended()
        error, attempted = self._outgoing.error, self._outgoing.attempted
        if error is not None:
            return error.trailing_metadata() or grpc.aio.Metadata()
        return grpc.aio.Metadata() if attempted is None else await attempted.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        await self._ended()
        if self.cancelled():
            return grpc.StatusCode.CANCELLED
        return self._outgoing.error.code() if self._outgoing.error else grpc.StatusCode.OK

    async def details(self) -> str:
        await self._ended()
        if self.cancelled():
            return "Locally cancelled by application!"  # grpc.aio's words.
        return (self._outgoing.error.details() if self._outgoing.error else None) or ""

    async def wait_for_connection(self) -> None:
        await self._ended()
        if self._outgoing.error is not None:
            raise self._outgoing.error

    def cancel(self) -> bool:
        return self._outgoing.task.cancel()

    def cancelled(self) -> bool:
        return self._outgoing.task.cancelled()

    def done(self) -> bool:
        return self._outgoing.task.done()

    def time_remaining(self) -> float | None:
        ends = self._outgoing.ends
        return None if ends is None else max(0.0, ends - asyncio.get_running_loop().time())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._outgoing.task.add_done_callback(lambda _: callback(self))

    async def _ended(self) -> None:
        # A task that asks for the status may be cancelled without cancelling the call.
        if not self._outgoing.task.done():
            await asyncio.wait([self._outgoing.task])

    def __repr__(self) -> str:
        state = "done" if self.done() else "under way"
        return f"<{type(self).__name__} {self._outgoing.method.name} {state}>"


class UnaryCall(CallHandle, grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """A call with one request and one answer: await it; see grpc.aio.UnaryUnaryCall.

    Raises:
        CallError: it failed.
    """

    def __await__(self) -> Generator[Any, None, Any]:
        # As with grpc.aio, cancelling a task that awaits the answer cancels the call.
        yield from self._outgoing.task
        error: CallError | None = self._outgoing.error
        if error is not None:
            raise error
        return self._outgoing.answer
