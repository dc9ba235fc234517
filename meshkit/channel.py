"""The channel to one instance."""

from __future__ import annotations

import grpc
from opentelemetry.trace import Tracer

from meshkit.tracing.client import TracingClientInterceptor

__all__ = ["instance_channel"]

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


def instance_channel(instance: str, tracer: Tracer | None = None) -> grpc.aio.Channel:
    """Open a plaintext channel to `host:port`, traced where a tracer is given. Use it with `async with`.

    Connecting is lazy: a call to an instance that is not there fails with UNAVAILABLE.
    """
    interceptors = [TracingClientInterceptor(tracer, instance)] if tracer else None
    return grpc.aio.insecure_channel(instance, options=CHANNEL_OPTIONS, interceptors=interceptors)
