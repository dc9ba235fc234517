"""The mesh as a `grpc.aio.Channel`: any generated stub works on it."""

# ruff: noqa: D102 - documented where the interface is

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AsyncExitStack
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.trace import NoOpTracer, Tracer

from meshkit.client.balancer import Balancer, EndpointSource, RoundRobin
from meshkit.client.budget import RetryBudget
from meshkit.client.call_error import CallError
from meshkit.client.channel import channel_factory
from meshkit.client.ejection import instance_breaker
from meshkit.client.endpointer import Endpointer, InstanceSource
from meshkit.client.multicallables import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from meshkit.client.outgoing import KEPT_METHODS, Method, MethodsOverChannel, Outgoing
from meshkit.client.retry import Retry
from meshkit.client.stream_calls import CALLS
from meshkit.client.streams import BrokenStreamError, OutgoingStream
from meshkit.endpoint import Endpoint, Middleware
from meshkit.errors import is_retryable
from meshkit.metrics.calls import ClientMetrics
from meshkit.middleware.breaker import HystrixBreaker
from meshkit.options import MAX_MESSAGE_BYTES, Options
from meshkit.tls.credentials import ClientTls

__all__ = ["MeshChannel"]

# Seconds between two checks of the connections, while waiting for one: gRPC can only wait for one channel at a time.
LOOK = 0.05


class MeshChannel(grpc.aio.Channel):
    """A channel to all instances of a service: each call is balanced, retried and traced, and sick instances ejected.

    Give it to a generated stub: `GreeterStub(channel).SayHello(request, timeout=1)`. Use it with `async with`. Calls
    end at the caller's deadline at the latest (`meshkit.deadline`), and so tell the server of it. `wait_for_ready`
    waits until an instance is connected. Failed calls raise CallError, a `grpc.RpcError` that names every attempt.

    A stream is one pick, in flight for as long as it lives, and is retried only before its first answer.

    What is made again by default is only what no server can have seen: calls that were refused on this side, and those
    to instances that cannot be connected to. Name what may be called twice as `idempotent`.

    Args:
        instances: an Instancer (entered, or entered later), or another source of addresses.
        tracer: makes the CLIENT spans, and one around a call that is not made within another span. Default: none.
        attempts: of a call, the first one included. Default 3.
        idempotent: full names of methods that may be called twice, e.g. `["Greeter/SayHello"]`, or True for all: they
            are retried whenever another instance may answer well, and their attempts share the deadline. Default ().
        hedge: for unary methods among `idempotent`: makes a second attempt beside one that takes longer than so many
            seconds, or a percentile of the method's own latency, as `"p95"`; see `Retry`. Default None: none.
        balancer: makes the balancer over the endpoints. Default `RoundRobin`.
        middleware: around each call with all its attempts, e.g. a HystrixBreaker or a limiter; the request that it sees
            is an `Outgoing`. Default: none.
        budget: bounds the retries of all methods together. Default: a RetryBudget of its own.
        breaker: judges an instance, see `Endpointer`. Default `instance_breaker`; None: instances are not judged.
        tls: None: plaintext.
        max_message_bytes: of an answer; a larger one fails with RESOURCE_EXHAUSTED, unread. Default 64 KiB.
        options: gRPC's, for the channel to each instance; they win over the mesh's own. Default: none.
        interceptors: gRPC's, around each attempt and within its span. Default: none.
        metrics: count calls, attempts and connections. Default: none.
    """

    def __init__(
        self,
        instances: InstanceSource,
        tracer: Tracer | None = None,
        *,
        attempts: int = 3,
        idempotent: bool | Collection[str] = (),
        hedge: float | str | None = None,
        balancer: Callable[[EndpointSource[Outgoing, Any]], Balancer[Outgoing, Any]] = RoundRobin,
        middleware: Middleware[Outgoing, Any] | None = None,
        budget: RetryBudget | None = None,
        breaker: Callable[[str], HystrixBreaker] | None = instance_breaker,
        tls: ClientTls | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        options: Options = (),
        interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
        metrics: ClientMetrics | None = None,
    ) -> None:
        if isinstance(idempotent, str):
            raise TypeError(f"expected names of methods as a list, or True, got {idempotent!r}")
        if hedge is not None and not idempotent:
            raise ValueError("hedging makes calls twice: name the methods that may be as `idempotent`")
        self._tracer = tracer or NoOpTracer()
        connect = channel_factory(
            lambda channel, _: MethodsOverChannel(channel),
            self._tracer,
            tls=tls,
            max_message_bytes=max_message_bytes,
            options=options,
            interceptors=interceptors,
            metrics=metrics,
        )
        # Both are to be read only.
        self.endpointer: Endpointer[Outgoing, Any] = Endpointer(instances, connect, breaker=breaker)
        self.budget = budget or RetryBudget()
        self._metrics = metrics
        self._tls = tls
        self._balancer = balancer(self.endpointer)
        self._attempts = attempts
        self._hedge = hedge
        self._all_idempotent = idempotent is True
        self._idempotent = frozenset(
            "/" + name.lstrip("/") for name in (() if isinstance(idempotent, bool) else idempotent)
        )
        self._middleware = middleware
        self._method = lru_cache(KEPT_METHODS)(self._new_method)
        self._calls: set[Outgoing] = set()
        self._open = self._closed = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._open = True
        await self._stack.enter_async_context(self.endpointer)
        if self._tls is not None:
            await self._stack.enter_async_context(self._tls.renewing(self.endpointer.renew))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> grpc.aio.UnaryUnaryMultiCallable[Any, Any]:
        """See grpc.aio.Channel, as for the methods below."""
        return UnaryUnary(self._begin, self._asked("unary_unary", method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> grpc.aio.UnaryStreamMultiCallable[Any, Any]:
        return UnaryStream(self._begin, self._asked("unary_stream", method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> grpc.aio.StreamUnaryMultiCallable[Any, Any]:
        return StreamUnary(self._begin, self._asked("stream_unary", method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> grpc.aio.StreamStreamMultiCallable[Any, Any]:
        return StreamStream(self._begin, self._asked("stream_stream", method, *args, **kwargs))

    def _asked(
        self,
        kind: str,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Method:
        return self._method(kind, method, request_serializer, response_deserializer)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: ARG002 - it always tries
        """READY: an instance is connected; CONNECTING: none of those known is; TRANSIENT_FAILURE: none is known."""
        if self._closed:
            return grpc.ChannelConnectivity.SHUTDOWN
        endpoints = self.endpointer.endpoints
        if any(endpoint.connected for endpoint in endpoints):
            return grpc.ChannelConnectivity.READY
        return grpc.ChannelConnectivity.CONNECTING if endpoints else grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        while self.get_state() is last_observed_state:  # noqa: ASYNC110 - see LOOK
            await asyncio.sleep(LOOK)

    async def channel_ready(self) -> None:
        """Wait until an instance is connected.

        Raises:
            grpc.aio.UsageError: the channel is closed.
        """
        while (state := self.get_state()) is not grpc.ChannelConnectivity.READY:
            self._check_open()
            await self.wait_for_state_change(state)

    async def close(self, grace: float | None = None) -> None:
        """Make no more calls, let those under way end for `grace` seconds, then end them, and close all connections."""
        self._closed = True
        tasks = [call.task for call in self._calls]
        if tasks and grace:
            await asyncio.wait(tasks, timeout=grace)
        for call in tuple(self._calls):
            call.fail(CallError(grpc.StatusCode.CANCELLED, details="the channel was closed"))
        if tasks:
            await asyncio.wait(tasks)
        await self._stack.aclose()

    def _begin(
        self,
        method: Method,
        request: Any,
        *,
        timeout: float | None,
        wait_for_ready: bool | None,
        options: dict[str, Any],
    ) -> Any:
        """Begin a call; gives its call object."""
        self._check_open()
        ready = self.channel_ready if wait_for_ready else None
        kind = Outgoing if method.kind == "unary_unary" else OutgoingStream
        call = kind(method, request, timeout=timeout, ready=ready, options=options)
        self._calls.add(call)
        call.start(self._tracer).add_done_callback(lambda _: self._calls.discard(call))
        return CALLS[method.kind](call)

    def _check_open(self) -> None:
        if self._closed:
            raise grpc.aio.UsageError("Channel is closed.")
        if not self._open:
            raise grpc.aio.UsageError("The channel is not open: use it with `async with`.")

    def _new_method(
        self, kind: str, name: str, encode: Callable[[Any], bytes] | None, decode: Callable[[bytes], Any] | None
    ) -> Method:
        repeatable = self._all_idempotent or name in self._idempotent
        calls = None if self._metrics is None else self._metrics.calls_of(name)
        retry: Endpoint[Outgoing, Any] = Retry(
            self._balancer,
            attempts=self._attempts,
            timeout=None,
            idempotent=repeatable,
            hedge=self._hedge if repeatable and kind == "unary_unary" else None,
            sharing=repeatable and kind == "unary_unary",
            retryable=lambda error: is_retryable(error) and not isinstance(error, BrokenStreamError),
            budget=self.budget,
            retried=None if calls is None else calls.retried,
        )
        endpoint = self._middleware(retry) if self._middleware else retry
        return Method(kind, name, encode, decode, endpoint, repeatable=repeatable, calls=calls)
