"""A gRPC server's life in the mesh: ready means discoverable, and leaving loses no call.

start    listener accepts → key in etcd → health SERVING
leave    health NOT_SERVING → lease revoked → clients learn of it (drain) → streams are told to end → calls in flight
         end (grace) → stopped
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import grpc
import structlog
from grpc_health.v1 import health_pb2_grpc

from meshkit.background import end_task
from meshkit.discovery.registrar import Registrar
from meshkit.options import MAX_MESSAGE_BYTES, server_options
from meshkit.server import health
from meshkit.server.added import AddedServices
from meshkit.server.callers import CallerInterceptor
from meshkit.server.departure import told_to_leave
from meshkit.server.handlers import HandlerInterceptor
from meshkit.server.port import bind
from meshkit.server.reflection import SERVICE_NAME as REFLECTION
from meshkit.server.reflection import enable_reflection
from meshkit.tls.credentials import ServerTls

__all__ = ["serve"]

log = structlog.stdlib.get_logger(__name__)


@asynccontextmanager
async def serve(
    add_services: Callable[[grpc.aio.Server], None],
    services: Sequence[str],
    *,
    listen: str,
    tls: ServerTls | None = None,
    health_listen: str | None = None,
    registrar: Registrar | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    drain: float = 2.0,
    grace: float = 10.0,
) -> AsyncIterator[int]:
    """Serve gRPC while the body runs; yields the port.

    Args:
        add_services: adds the servicers, e.g. `lambda server: add_BookServiceServicer_to_server(Books(), server)`.
        services: full names of those services, for health and reflection, e.g. `["BookService"]`.
        listen: `host:port`; port 0 takes a free one.
        tls: None: plaintext. Its `client_names` hold for all services of this port, health and reflection included.
        health_listen: `host:port` for the health service alone, always plaintext: for probes that speak no TLS, as
            those of Kubernetes. Default None: none.
        registrar: not yet started; None: nothing is registered, and ready means listening.
        interceptors: outermost first. Health and reflection pass them too.
        max_message_bytes: of a request; a larger one is refused with RESOURCE_EXHAUSTED, unread. Default 64 KiB.
        drain: seconds between the lease's end and the listener's, for clients to learn of it. Default 2.
        grace: seconds that calls in flight may take after that; then they are cancelled. Default 10.

    Raises:
        ValueError: `services`, or an interceptor of meshkit's, names a service that is not added.
        OSError: a port cannot be bound; says which, and why.
    """
    added = AddedServices(add_services)
    _check_names(added, services, interceptors)
    servicer = health.HealthServicer()
    leaves = asyncio.Event()
    names = ("", *services)
    servicer.set(health.NOT_SERVING, *names)
    if tls is not None and tls.client_names:
        interceptors = (CallerInterceptor(tls.client_names), *interceptors)
    options = server_options(max_message_bytes)
    server = grpc.aio.server(interceptors=interceptors, options=options)
    added.add_to(server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    enable_reflection((*services, health.SERVICE_NAME), server)
    health_server = grpc.aio.server(options=options)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, health_server)
    try:
        if health_listen is not None:
            await bind(health_server, health_listen)
            await health_server.start()
        port = await bind(server, listen, tls)
        with told_to_leave(leaves):
            await server.start()
        log.info("listening", listen=listen, port=port, tls=tls is not None)
        try:
            if registrar is not None:
                registrar.start()
            async with _ready_once_registered(servicer, names, registrar):
                yield port
        finally:
            log.info("leaving", drain=drain, grace=grace)
            servicer.set(health.NOT_SERVING, *names)
            if registrar is not None and await registrar.deregister():
                await asyncio.sleep(drain)
            servicer.end_watches()
            leaves.set()
            await server.stop(grace)
            log.info("stopped")
    finally:
        # Does nothing to a server that has stopped already, or has not been started.
        await server.stop(None)
        await health_server.stop(None)


def _check_names(
    added: AddedServices, services: Sequence[str], interceptors: Sequence[grpc.aio.ServerInterceptor]
) -> None:
    added.check(services, "services")
    for interceptor in interceptors:
        if isinstance(interceptor, HandlerInterceptor) and interceptor.services is not None:
            named = interceptor.services - {health.SERVICE_NAME, REFLECTION}
            added.check(named, f"{type(interceptor).__name__}'s services")


@asynccontextmanager
async def _ready_once_registered(
    servicer: health.HealthServicer, names: Sequence[str], registrar: Registrar | None
) -> AsyncIterator[None]:
    async def follow() -> None:
        while True:
            if registrar is not None:
                await registrar.wait_registered()
            servicer.set(health.SERVING, *names)
            log.info("ready")
            if registrar is None:
                return
            # Not when etcd is away: only when it says that another server has the key, to which clients go.
            await registrar.wait_displaced()
            servicer.set(health.NOT_SERVING, *names)
            log.warning("not ready: the key belongs to a successor", key=registrar.key)

    readiness = asyncio.create_task(follow(), name="readiness")
    try:
        yield
    finally:
        await end_task(readiness)
