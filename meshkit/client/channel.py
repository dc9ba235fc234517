"""The channel to one instance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Generic

import grpc
import structlog
from opentelemetry.trace import NoOpTracer, Tracer

from meshkit.address import grpc_target
from meshkit.background import end_tasks
from meshkit.client.deadline_channel import DeadlineChannel
from meshkit.client.instance import Factory
from meshkit.client.spans import TracedChannel
from meshkit.endpoint import Endpoint, Request, Response
from meshkit.metrics.calls import ClientMetrics, Connections
from meshkit.options import MAX_MESSAGE_BYTES, Options, instance_options
from meshkit.shared_channel import SharedChannel
from meshkit.tls.credentials import ClientTls

__all__ = ["channel_factory", "instance_channel"]

log = structlog.stdlib.get_logger(__name__)

# Seconds that calls under way on a channel that was replaced may still take.
DRAIN = 30.0
# Seconds after which a channel that cannot connect is replaced: gRPC may wait two minutes before it asks for a name
# again that did not resolve.
RENEW_UNREACHED = 5.0


def instance_channel(
    instance: str,
    tracer: Tracer | None = None,
    *,
    tls: ClientTls | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    options: Options = (),
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    metrics: ClientMetrics | None = None,
) -> grpc.aio.Channel:
    """Open a channel to `host:port`, traced where a tracer is given, plaintext unless `tls` is. Use with `async with`.

    Its calls end at the current deadline at the latest, see `DeadlineChannel`.
    Connecting is lazy: a call to an instance that is not there, or whose certificate is refused, fails with
    UNAVAILABLE and says why. A larger answer than `max_message_bytes` fails with RESOURCE_EXHAUSTED, unread;
    one that cannot be decoded is INTERNAL. `metrics` count its calls. `options` win over the mesh's own, as gRPC heeds
    the first of a name; `interceptors` are within the span.
    """
    target, options = grpc_target(instance), (*options, *instance_options(max_message_bytes))
    if tls is None:
        channel = grpc.aio.insecure_channel(target, options=options, interceptors=interceptors)
    else:
        options = (*options, *tls.options())
        channel = grpc.aio.secure_channel(target, tls.credentials(), options=options, interceptors=interceptors)
    if tracer is None and metrics is None:
        return DeadlineChannel(channel)
    return TracedChannel(channel, tracer or NoOpTracer(), instance, metrics)


def channel_factory(
    endpoint_over: Callable[[grpc.aio.Channel, str], Endpoint[Request, Response]],
    tracer: Tracer | None = None,
    *,
    tls: ClientTls | None = None,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    options: Options = (),
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    metrics: ClientMetrics | None = None,
) -> Factory[Request, Response]:
    """Make a factory for an Endpointer: each endpoint has a channel and knows whether it is connected.

    Args:
        endpoint_over: makes the endpoint, from the channel and the instance's `host:port`. Called again when the
            channel is replaced.
        tracer: makes the CLIENT spans; None: none.
        tls: None: plaintext.
        max_message_bytes: of an answer; a larger one fails the call with RESOURCE_EXHAUSTED, unread. Default 64 KiB.
        options: gRPC's, for each channel; they win over the mesh's own. Default: none.
        interceptors: gRPC's, around each attempt and within its span. Default: none.
        metrics: count attempts and connections. Default: none.
    """

    @asynccontextmanager
    async def connect(instance: str) -> AsyncIterator[Endpoint[Request, Response]]:
        def open_channel() -> grpc.aio.Channel:
            return instance_channel(
                instance,
                tracer,
                tls=tls,
                max_message_bytes=max_message_bytes,
                options=options,
                interceptors=interceptors,
                metrics=metrics,
            )

        connections = None if metrics is None else metrics.connections
        with nullcontext() if metrics is None else metrics.following(instance):
            connection = _ChannelEndpoint(
                open_channel, lambda channel: endpoint_over(channel, instance), instance, connections
            )
            try:
                yield connection
            finally:
                await connection.close()

    return connect


class _ChannelEndpoint(Generic[Request, Response]):
    """An endpoint over a channel that also tells whether it is connected (`Connection`).

    Args:
        open_channel: opens a channel to the instance.
        endpoint_over: makes the endpoint over a channel.
        instance: `host:port`, for the log.
        connections: counts them; None: nothing does.
    """

    def __init__(
        self,
        open_channel: Callable[[], grpc.aio.Channel],
        endpoint_over: Callable[[grpc.aio.Channel], Endpoint[Request, Response]],
        instance: str,
        connections: Connections | None = None,
    ) -> None:
        self._connections = connections
        self._followers: set[asyncio.Task[None]] = set()
        self._open_channel = open_channel
        self._endpoint_over = endpoint_over
        self._instance = instance
        self._retired: set[asyncio.Task[None]] = set()
        self._open()

    def _open(self) -> None:
        self._opened = asyncio.get_running_loop().time()
        self._shared = SharedChannel(self._open_channel())
        self._endpoint = self._endpoint_over(self._shared.channel)
        if self._connections is not None:
            following = _follow(self._shared.channel, self._connections)
            follower = asyncio.create_task(following, name=f"connection {self._instance}")
            self._followers.add(follower)
            follower.add_done_callback(self._followers.discard)

    async def __call__(self, request: Request) -> Response:
        # The counterpart of `_renew`: this channel is not closed before the call has ended.
        with self._shared:
            return await self._endpoint(request)

    def connected(self) -> bool:
        # A state that gRPC keeps anyway: asking costs half a microsecond.
        state = self._shared.channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE and self._age() > RENEW_UNREACHED:
            self._renew()
        return state is grpc.ChannelConnectivity.READY

    def reconnect(self) -> None:
        log.warning("connection made anew", instance=self._instance)
        self._renew()

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._opened

    def _renew(self) -> None:
        retired = asyncio.create_task(self._shared.retire(DRAIN), name=f"retired channel {self._instance}")
        self._retired.add(retired)
        retired.add_done_callback(self._retired.discard)
        self._open()
        self._shared.channel.get_state(try_to_connect=True)

    async def close(self) -> None:
        """Close all channels; calls under way are cancelled."""
        await end_tasks(tuple(self._retired))
        await self._shared.channel.close()
        await end_tasks(tuple(self._followers))


async def _follow(channel: grpc.aio.Channel, connections: Connections) -> None:
    """Count a channel's changes of state, until it is closed."""
    state = grpc.ChannelConnectivity.IDLE
    try:
        while state is not grpc.ChannelConnectivity.SHUTDOWN:
            await channel.wait_for_state_change(state)
            old, state = state, channel.get_state()
            connections.changed(old, state)
    finally:
        connections.changed(state, grpc.ChannelConnectivity.SHUTDOWN)
