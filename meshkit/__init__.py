"""meshkit: a small asyncio toolkit for gRPC services that find each other in etcd.

    server   serving( Registrar, MiddlewareInterceptor(DelayingLimiter(TokenBucket)), TracingServerInterceptor )
    client   HystrixBreaker → Retry → RoundRobin → Endpointer(Instancer) → breaker and channel of an instance

Everything that wraps a call is a middleware (`meshkit.endpoint`), everything with a lifetime an async context
manager, and time, randomness and etcd come in through parameters. docs/greeter.py is a whole service and its client.
"""

from __future__ import annotations

from meshkit.address import parse_address
from meshkit.attempt import Attempt, current_attempt
from meshkit.backoff import Backoff
from meshkit.balancer import Balancer, EndpointSource, Random, RoundRobin
from meshkit.breaker import HystrixBreaker, instance_breaker, is_system_failure
from meshkit.channel import channel_factory, instance_channel
from meshkit.deadline import remaining, within
from meshkit.endpoint import Endpoint, Middleware, chain
from meshkit.endpointer import Endpointer, Factory, InstanceEndpoint, InstanceSource
from meshkit.errors import (
    BreakerOpenError,
    BreakerTimeoutError,
    CutOffError,
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
from meshkit.eventloop import run_async
from meshkit.instancer import InstanceChange, Instancer, Observer
from meshkit.logs import configure_logging
from meshkit.middleware import MiddlewareInterceptor
from meshkit.pem import PemFiles, PemWatch
from meshkit.ratelimit import DelayingLimiter, ErroringLimiter, TokenBucket
from meshkit.registrar import Registrar
from meshkit.retry import Retry, is_retryable
from meshkit.retry_budget import RetryBudget
from meshkit.serving import serving, stop_signal
from meshkit.tls import ClientTls, ServerTls
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
    "ClientTls",
    "CutOffError",
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
    "PemWatch",
    "Random",
    "RateLimitedError",
    "RefusedError",
    "Registrar",
    "Retry",
    "RetryBudget",
    "RetryError",
    "RoundRobin",
    "ServerTls",
    "TokenBucket",
    "TracingClientInterceptor",
    "TracingServerInterceptor",
    "WatchCanceledError",
    "chain",
    "channel_factory",
    "configure_logging",
    "current_attempt",
    "instance_breaker",
    "instance_channel",
    "is_retryable",
    "is_system_failure",
    "parse_address",
    "remaining",
    "root_span",
    "run_async",
    "serving",
    "status_of",
    "stop_signal",
    "trace_id_of",
    "tracer_provider",
    "tracing",
    "within",
]
