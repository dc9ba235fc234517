"""meshkit: a small asyncio toolkit for gRPC services that find each other in etcd.

    Mesh     opens what a program needs: a channel for any generated stub, a server for any generated servicer

and the parts that it is made of:

    server   serve( Registrar, MiddlewareInterceptor(DelayingLimiter(TokenBucket)), TracingServerInterceptor )
    client   HystrixBreaker → Retry → RoundRobin → Endpointer(Instancer) → breaker and channel of an instance

Everything that wraps a call is a middleware (`meshkit.endpoint`), everything with a lifetime an async context
manager, and time, randomness and etcd come in through parameters. What a service of one's own needs first is here;
the rest is in the rooms:

    meshkit.client       a call on its way out: retry, balancers, endpoints, channels, ejection
    meshkit.server       a call on its way in: serving, interceptors, health
    meshkit.middleware   circuit breaker and rate limiters
    meshkit.discovery    registrar and instancer
    meshkit.etcd         the port to etcd, and its client
    meshkit.tracing      spans, B3, Zipkin
    meshkit.tls          certificates that change
    meshkit.program      flags, log, event loop, signals

and, below all of them: errors, endpoint, deadline, attempt, address, backoff, background.
"""

from __future__ import annotations

from meshkit.client import CallError, Endpointer, MeshChannel, Retry, RoundRobin, channel_factory
from meshkit.discovery import Instancer, Registrar
from meshkit.endpoint import Endpoint, Middleware, chain
from meshkit.errors import MeshError, RetryError
from meshkit.etcd import EtcdClient
from meshkit.mesh import Mesh
from meshkit.middleware import DelayingLimiter, HystrixBreaker, HystrixPolicy, TokenBucket
from meshkit.program import configure_logging, run_async, stop_signal
from meshkit.server import MiddlewareInterceptor, TracingServerInterceptor, serve
from meshkit.tls import ClientTls, PemFiles, ServerTls
from meshkit.tracing import open_tracer, root_span, trace_id_of

__all__ = [
    "CallError",
    "ClientTls",
    "DelayingLimiter",
    "Endpoint",
    "Endpointer",
    "EtcdClient",
    "HystrixBreaker",
    "HystrixPolicy",
    "Instancer",
    "Mesh",
    "MeshChannel",
    "MeshError",
    "Middleware",
    "MiddlewareInterceptor",
    "PemFiles",
    "Registrar",
    "Retry",
    "RetryError",
    "RoundRobin",
    "ServerTls",
    "TokenBucket",
    "TracingServerInterceptor",
    "chain",
    "channel_factory",
    "configure_logging",
    "open_tracer",
    "root_span",
    "run_async",
    "serve",
    "stop_signal",
    "trace_id_of",
]
