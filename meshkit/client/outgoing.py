"""A call on its way through the mesh: what is sent, and how far it has come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import grpc
from opentelemetry import trace
from opentelemetry.trace import Span, Tracer

from meshkit import deadline
from meshkit.client.call_error import CallError
from meshkit.endpoint import Endpoint
from meshkit.errors import NotConnectedError
from meshkit.metrics.calls import MethodCalls
from meshkit.tracing.root import root_span

__all__ = ["Method", "MethodsOverChannel", "Outgoing"]

# Methods that are kept: stubs ask for the same few again and again, but may be made for each call.
KEPT_METHODS = 1024


class Method:
    """One method of a service, as a stub asks a channel for it.

    Args:
        kind: `unary_unary`, `unary_stream`, `stream_unary` or `stream_stream`.
        name: full name, e.g. `/BookService/GetBookInfo`.
        encode: makes bytes of a request; None: requests are bytes.
        decode: makes an answer of bytes; None: answers are bytes.
        endpoint: takes its calls through the mesh.
        repeatable: whether the service's owner has said that it may be called twice.
        calls: counts them; None: nothing does.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        encode: Callable[[Any], bytes] | None,
        decode: Callable[[bytes], Any] | None,
        endpoint: Endpoint[Outgoing, Any],
        *,
        repeatable: bool,
        calls: MethodCalls | None = None,
    ) -> None:
        self.calls = calls
        self.kind = kind
        self.name = name
        self.encode = encode
        self.decode = decode
        self.endpoint = endpoint
        self.repeatable = repeatable

    def over(self, channel: grpc.aio.Channel) -> Any:
        """A multi-callable that makes the method's calls on a channel to one instance, of requests that are bytes."""
        return getattr(channel, self.kind)(self.name, None, self.decode)


class Outgoing:
    """One call on its way through the mesh: a request for the endpoints of `MethodsOverChannel`.

    It is made at once, in a task of its own, and ends on its own: by its answer, its deadline, or `cancel`.

    Args:
        method: what is called.
        request: as the caller has given it.
        timeout: seconds for the whole call; None: as the caller's own deadline has it.
        ready: waits until an instance is ready, before the call; None: the call fails where there is none.
        options: for every attempt: metadata, credentials, compression.

    Raises:
        CallError: the request cannot be encoded.
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
        self.method = method
        # The attempt that was answered well, or the last one that was handed to gRPC.
        self.attempted: Any = None
        self.answer: Any = None
        self.error: CallError | None = None
        self.ends: float | None = None
        self._message = self._encoded(request)
        self._timeout = timeout
        self._ready = ready
        self._options = options
        self._failure: CallError | None = None
        self._root: Span | None = None

    def _encoded(self, request: Any) -> Any:
        # Once, for all attempts: what cannot be encoded is the caller's mistake, and no instance's.
        try:
            return self.method.encode(request) if self.method.encode else request
        except Exception as error:
            details = f"the request cannot be encoded: {type(error).__name__}: {error}"
            raise CallError(grpc.StatusCode.INTERNAL, details=details) from error

    def start(self, tracer: Tracer) -> asyncio.Task[None]:
        """Begin the call; the task ends with it."""
        self.task = asyncio.get_running_loop().create_task(self._run(tracer))
        return self.task

    def fail(self, error: CallError) -> None:
        """End it with an error: its caller has not cancelled it, and would not expect a CancelledError."""
        if not self.task.done():
            self._failure = self._failure or error
            self.task.cancel()

    async def _run(self, tracer: Tracer) -> None:
        calls = self.method.calls
        if calls is None:
            await self._make(tracer)
            return
        begun, cancelled = calls.begin(), True
        try:
            await self._make(tracer)
            cancelled = False
        finally:
            code = grpc.StatusCode.CANCELLED if cancelled else self.error.code() if self.error else grpc.StatusCode.OK
            calls.end(code, begun, self._root)

    async def _make(self, tracer: Tracer) -> None:
        # The task has a context of its own: nothing of this is seen by the caller.
        deadline.narrow(self._timeout)
        if (left := deadline.remaining()) is not None:
            self.ends = asyncio.get_running_loop().time() + left
        try:
            if self._ready is not None:
                async with deadline.within(None):
                    await self._ready()
            if trace.get_current_span().get_span_context().is_valid:
                self.answer = await self.method.endpoint(self)
            else:
                # All attempts of a call belong to one trace.
                with root_span(tracer, self.method.name.lstrip("/")) as self._root:
                    self.answer = await self.method.endpoint(self)
        except asyncio.CancelledError:
            if self._failure is None:
                raise
            self.error = self._failure
        except Exception as error:  # noqa: BLE001 - told to whoever waits for the call, be it nobody
            self.error = CallError.of(error)

    async def attempt(self, make_call: Any) -> Any:
        """Make one attempt, with a multi-callable to one instance."""
        try:
            self.attempted = call = make_call(self._message, **self._options)
            answer = await call
        except (grpc.RpcError, TimeoutError):
            raise
        except Exception as error:
            # Not an answer, so it does not speak against the instance: metadata that cannot be sent, for one.
            raise unsendable(error) from error
        # Not one that was made beside it.
        self.attempted = call
        return answer


def unsendable(error: Exception) -> grpc.aio.AioRpcError:
    """The error of a call with which gRPC can do nothing."""
    nothing = grpc.aio.Metadata()
    details = f"the call cannot be made: {type(error).__name__}: {error}"
    return grpc.aio.AioRpcError(grpc.StatusCode.INVALID_ARGUMENT, nothing, nothing, details=details)


class MethodsOverChannel:
    """An endpoint over a channel to one instance that makes the calls of whichever method.

    gRPC for Python does not tell whether a call that failed with UNAVAILABLE has been sent: not by its error, and not
    reliably by its text, which a server can send as well. So a call that must not be made twice is only handed to gRPC
    once the connection stands; before that, an error proves that no server has seen it.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._over = lru_cache(KEPT_METHODS)(lambda method: method.over(channel))

    async def __call__(self, call: Outgoing) -> Any:
        """Make one attempt of a call.

        Raises:
            NotConnectedError: the instance cannot be reached; the call was not sent.
            grpc.aio.AioRpcError: it failed.
        """
        if not call.method.repeatable and self._channel.get_state() is not grpc.ChannelConnectivity.READY:
            await self._connect()
        return await call.attempt(self._over(call.method))

    async def _connect(self) -> None:
        left = deadline.remaining()
        try:
            # Half of the time: what is never connected to would eat the whole of it otherwise.
            async with asyncio.timeout(None if left is None else left / 2):
                while (state := self._channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    if state in _HOPELESS:
                        raise NotConnectedError("cannot connect")
                    await self._channel.wait_for_state_change(state)
        except TimeoutError as error:
            raise NotConnectedError(f"not connected within {(left or 0) / 2:.3g} s") from error


_HOPELESS = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
