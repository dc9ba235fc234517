"""The channel to one instance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic

import grpc
from opentelemetry.trace import Tracer

from meshkit.client.instance import Factory
from meshkit.client.spans import TracedChannel
from meshkit.endpoint import Endpoint, Request, Response
from meshkit.tls.credentials import ClientTls

__all__ = ["channel_factory", "instance_channel"]

CHANNEL_OPTIONS = (
    # gRPC shares connections by address, and with them the reconnect backoff (up to two minutes) of an instance that
    # died there: a new one at that address would stay unreachable.
    ("grpc.use_local_subchannel_pool", 1),
    # The channel's own retries stay on the instance; `Retry` moves on to another.
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


def instance_channel(instance: str, tracer: Tracer | None = None, *, tls: ClientTls | None = None) -> grpc.aio.Channel:
    """Open a channel to `host:port`, traced where a tracer is given, plaintext unless `tls` is. Use with `async with`.

    Connecting is lazy: a call to an instance that is not there, or whose certificate is refused, fails with
    UNAVAILABLE and says why.
    """
    if tls is None:
        channel = grpc.aio.insecure_channel(instance, options=CHANNEL_OPTIONS)
    else:
        channel = grpc.aio.secure_channel(instance, tls.credentials(), options=CHANNEL_OPTIONS + tls.options())
    return TracedChannel(channel, tracer, instance) if tracer else channel


def channel_factory(
    endpoint_over: Callable[[grpc.aio.Channel, str], Endpoint[Request, Response]],
    tracer: Tracer | None = None,
    *,
    tls: ClientTls | None = None,
) -> Factory[Request, Response]:
    """A factory for an Endpointer: endpoints over a channel each, which know whether their connection stands.

    Args:
        endpoint_over: makes the endpoint, from the channel and the instance's `host:port`.
        tracer: makes the CLIENT spans; None: none.
        tls: None: plaintext.
    """

    @asynccontextmanager
    async def connect(instance: str) -> AsyncIterator[Endpoint[Request, Response]]:
        async with instance_channel(instance, tracer, tls=tls) as channel:
            yield _ChannelEndpoint(channel, endpoint_over(channel, instance))

    return connect


class _ChannelEndpoint(Generic[Request, Response]):
    """An endpoint that knows whether its connection stands: see `InstanceEndpoint`."""

    def __init__(self, channel: grpc.aio.Channel, endpoint: Endpoint[Request, Response]) -> None:
        self._channel = channel
        self._endpoint = endpoint

    def __call__(self, request: Request) -> Awaitable[Response]:
        return self._endpoint(request)

    def connected(self) -> bool:
        # A state that gRPC keeps anyway: asking costs a fraction of a microsecond.
        return self._channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY
