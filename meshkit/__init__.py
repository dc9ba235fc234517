"""meshkit: a small asyncio toolkit for gRPC services that find each other in etcd.

    server   serving( Registrar, MiddlewareInterceptor(DelayingLimiter(TokenBucket)), TracingServerInterceptor )
    client   HystrixBreaker → Retry → RoundRobin → Endpointer(Instancer) → channel with TracingClientInterceptor

Everything that wraps a call is a middleware (`meshkit.endpoint`), everything with a lifetime an async context
manager, and time, randomness and etcd come in through parameters. docs/greeter.py is a whole service and its client.
"""

from __future__ import annotations

from meshkit.address import parse_address
from meshkit.attempt import Attempt, current_attempt
from meshkit.backoff import Backoff
from meshkit.balancer import Balancer, EndpointSource, Random, RoundRobin
from meshkit.breaker import HystrixBreaker, is_system_failure
from meshkit.channel import instance_channel
from meshkit.deadline import remaining, within
from meshkit.endpoint import Endpoint, Middleware, chain
from meshkit.endpointer import Endpointer, Factory, InstanceEndpoint, InstanceSource
from meshkit.errors import (
    BreakerOpenError,
    BreakerTimeoutError,
    EtcdError,
    FailedAttempt,
    LeaseLostError,
    MaxConcurrencyError,
    MeshError,
    NoEndpointsError,
    RateLimitedError,
    RefusedError,
    RetryError,
    WatchCanceledError,
    status_of,
)
from meshkit.etcd import Etcd, EtcdClient, EtcdLogin
from meshkit.instancer import InstanceChange, Instancer, Observer
from meshkit.logs import configure_logging
from meshkit.middleware import MiddlewareInterceptor
from meshkit.pem import PemFiles
from meshkit.ratelimit import DelayingLimiter, ErroringLimiter, TokenBucket
from meshkit.registrar import Registrar
from meshkit.retry import Retry, is_retryable
from meshkit.serving import serving, stop_signal
from meshkit.tracing import (
    TracingClientInterceptor,
    TracingServerInterceptor,
    root_span,
    trace_id_of,
    tracer_provider,
    tracing,
)

__all__ = [
    "Attempt",
    "Backoff",
    "Balancer",
    "BreakerOpenError",
    "BreakerTimeoutError",
    "DelayingLimiter",
    "Endpoint",
    "EndpointSource",
    "Endpointer",
    "ErroringLimiter",
    "Etcd",
    "EtcdClient",
    "EtcdError",
    "EtcdLogin",
    "Factory",
    "FailedAttempt",
    "HystrixBreaker",
    "InstanceChange",
    "InstanceEndpoint",
    "InstanceSource",
    "Instancer",
    "LeaseLostError",
    "MaxConcurrencyError",
    "MeshError",
    "Middleware",
    "MiddlewareInterceptor",
    "NoEndpointsError",
    "Observer",
    "PemFiles",
    "Random",
    "RateLimitedError",
    "RefusedError",
    "Registrar",
    "Retry",
    "RetryError",
    "RoundRobin",
    "TokenBucket",
    "TracingClientInterceptor",
    "TracingServerInterceptor",
    "WatchCanceledError",
    "chain",
    "configure_logging",
    "current_attempt",
    "instance_channel",
    "is_retryable",
    "is_system_failure",
    "parse_address",
    "remaining",
    "root_span",
    "serving",
    "status_of",
    "stop_signal",
    "trace_id_of",
    "tracer_provider",
    "tracing",
    "within",
]
