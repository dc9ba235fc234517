"""A gRPC server's life in the mesh: ready means discoverable, and leaving loses no call.

start    listener accepts → key in etcd → health SERVING
leave    health NOT_SERVING → lease revoked → clients hear of it (drain) → calls in flight end (grace) → stopped
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from meshkit.address import parse_address
from meshkit.registrar import Registrar
from meshkit.tls import ServerTls

__all__ = ["MAX_MESSAGE_BYTES", "serving", "stop_signal"]

log = structlog.stdlib.get_logger(__name__)

MAX_MESSAGE_BYTES = 64 * 1024
MAX_METADATA_BYTES = 16 * 1024
# How long a health watcher that does not read may hold up leaving.
HEALTH_PATIENCE = 1.0

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    # protobuf's pure-Python decoder is slow and recursive: large messages are refused before it sees them.
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    # A port that is taken is an error, not something to share.
    ("grpc.so_reuseport", 0),
    # Who connects and never says anything is let go after this long, not after gRPC's two minutes.
    ("grpc.server_handshake_timeout_ms", 10_000),
)


@asynccontextmanager
async def serving(
    add_services: Callable[[grpc.aio.Server], None],
    services: Sequence[str],
    *,
    listen: str,
    tls: ServerTls | None = None,
    health_listen: str | None = None,
    registrar: Registrar | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    drain: float = 2.0,
    grace: float = 10.0,
) -> AsyncIterator[int]:
    """Serve gRPC while the body runs; yields the port.

    Parameters:
        add_services: adds the servicers, e.g. `lambda server: add_BookServiceServicer_to_server(Books(), server)`.
        services: full names of the services, for health and reflection, e.g. `["BookService"]`.
        listen: `host:port`; port 0 takes a free one.
        tls: None: plaintext.
        health_listen: `host:port` for the health service alone, always plaintext: for probes that speak no TLS, as
            those of Kubernetes. Default None: none.
        registrar: not yet entered; None: nothing is registered, and ready means listening.
        interceptors: outermost first. Health and reflection pass them too.
        drain: seconds between the lease's end and the listener's, for clients to hear of it. Default 2.
        grace: seconds that calls in flight may take after that; then they are cancelled. Default 10.

    Raises:
        OSError: a port cannot be bound.
    """
    server = grpc.aio.server(interceptors=interceptors, options=SERVER_OPTIONS)
    add_services(server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    own = (health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection((*services, *own), server)
    names = ("", *services)
    await _set_health(health_servicer, names, health_pb2.HealthCheckResponse.NOT_SERVING)
    _try_to_bind(listen)
    health_server = await _health_server(health_servicer, health_listen) if health_listen else None
    port = server.add_secure_port(listen, tls.credentials()) if tls else server.add_insecure_port(listen)
    await server.start()
    log.info("listening", listen=listen, port=port, tls=tls is not None)
    readiness: asyncio.Task[None] | None = None
    try:
        if registrar is not None:
            await registrar.__aenter__()
        readiness = asyncio.create_task(_announce_ready(health_servicer, names, registrar))
        yield port
    finally:
        if readiness is not None:
            readiness.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await readiness
        log.info("leaving", drain=drain, grace=grace)
        await _set_health(health_servicer, names, health_pb2.HealthCheckResponse.NOT_SERVING)
        if registrar is not None and await registrar.deregister():
            await asyncio.sleep(drain)
        await server.stop(grace)
        if health_server is not None:
            await health_server.stop(None)
        log.info("stopped")


async def _health_server(health_servicer: health.aio.HealthServicer, listen: str) -> grpc.aio.Server:
    _try_to_bind(listen)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    server.add_insecure_port(listen)
    await server.start()
    return server


def _try_to_bind(listen: str) -> None:
    """Fail with the reason, where gRPC would only say that it failed and log the rest past everybody."""
    host, port = parse_address(listen)
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise OSError(f"cannot listen on {listen}: {os.strerror(error.errno) if error.errno else error}") from error


async def _announce_ready(
    health_servicer: health.aio.HealthServicer, names: Sequence[str], registrar: Registrar | None
) -> None:
    if registrar is not None:
        await registrar.wait_registered()
    await _set_health(health_servicer, names, health_pb2.HealthCheckResponse.SERVING)
    log.info("ready")


async def _set_health(health_servicer: health.aio.HealthServicer, names: Sequence[str], status: int) -> None:
    for name in names:
        try:
            async with asyncio.timeout(HEALTH_PATIENCE):
                await health_servicer.set(name, status)
        except TimeoutError:
            log.warning("a health watcher does not read", service=name)


@contextlib.contextmanager
def stop_signal() -> Any:
    """Turn SIGINT and SIGTERM into an asyncio.Event, for as long as the body runs.

    The first one sets the event; the second one does what it does by default, so that whoever is in a hurry is heard.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def received(number: signal.Signals) -> None:
        log.info("signal received", signal=number.name)
        stop.set()
        restore()

    def restore() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, received, number)
    try:
        yield stop
    finally:
        restore()
