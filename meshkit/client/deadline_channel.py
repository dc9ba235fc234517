"""A channel whose calls end when their callers stop waiting."""

# ruff: noqa: D102 - documented where the interface is

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Self

import grpc

from meshkit import deadline
from meshkit.attempt import repetition

__all__ = ["CallAround", "CheckedCall", "DeadlineChannel", "IteratesByReading", "checked", "lenient"]


class DeadlineChannel(grpc.aio.Channel):
    """A channel whose calls end at the current deadline at the latest, as `meshkit.deadline` knows it.

    So a call within a call is limited by the deadline of the outer one's caller, and the server is told that deadline.
    It is also told of a call that is made again (`meshkit.attempt.repetition`).
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
        make_call = self._channel.unary_unary(method, request_serializer, lenient(response_deserializer), **kwargs)

        def call(request: Any, *, timeout: float | None = None, metadata: Any = None, **options: Any) -> CheckedCall:
            metadata = (*(metadata or ()), *repetition())
            return CheckedCall(make_call(request, timeout=deadline.bounded(timeout), metadata=metadata, **options))

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
    # With a stream of requests all may be given by position.
    def call(request: Any = None, timeout: float | None = None, metadata: Any = None, **options: Any) -> Any:
        metadata = (*(metadata or ()), *repetition())
        return make_call(request, timeout=deadline.bounded(timeout), metadata=metadata, **options)

    return call


def lenient(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Decode to None what cannot be decoded, as grpc.aio does, but without a traceback in the log."""
    if deserialize is None:
        return None

    def decode(message: bytes) -> Any:
        try:
            return deserialize(message)
        except Exception:  # noqa: BLE001 - whatever a decoder raises, RecursionError included
            return None

    return decode


def checked(answer: Any) -> Any:
    """The answer, unless it could not be decoded: grpc.aio gives None with the status OK."""
    if answer is None:
        nothing = grpc.aio.Metadata()
        details = "the answer cannot be decoded"
        raise grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, details=details)
    return answer


class CallAround(grpc.aio.Call):
    """A call object that asks another one; see grpc.aio.Call.

    Args:
        call: the other one.
    """

    def __init__(self, call: Any) -> None:
        self._call = call

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


class CheckedCall(CallAround, grpc.aio.UnaryUnaryCall):  # type: ignore[type-arg]
    """A call that fails with INTERNAL when its answer cannot be decoded."""

    def __await__(self) -> Generator[Any, None, Any]:
        return checked((yield from self._call.__await__()))


class IteratesByReading:
    """Iteration over the answers of a stream, by its `read`."""

    async def read(self) -> Any:
        raise NotImplementedError

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message
