"""The program book-server: one replica of the book service."""

from __future__ import annotations

from book_server import end_at_signals

if __name__ == "__main__":
    # First, as what follows takes most of a second.
    end_at_signals()

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import structlog
from book_pb2_grpc import add_BookServiceServicer_to_server
from click.core import ParameterSource
from faults_pb2_grpc import add_FaultsServicer_to_server

from book_server import faults
from book_server.books import SERVICE, BookService
from meshkit import (
    DelayingLimiter,
    MiddlewareInterceptor,
    PemFiles,
    Registrar,
    ServerTls,
    TokenBucket,
    TracingServerInterceptor,
    configure_logging,
    open_tracer,
    run_async,
    serve,
    stop_signal,
)
from meshkit.address import parse_address
from meshkit.admin import admin_port
from meshkit.metrics import ServerMetrics, Sources
from meshkit.options import MAX_MESSAGE_BYTES
from meshkit.program.admin_flags import AdminFlags
from meshkit.program.cli import EtcdAccess, mesh_options, run
from meshkit.program.flags import (
    ADDRESS,
    CERTIFICATE_NAMES,
    DURATION,
    MESSAGE_BYTES,
    PEER_ADDRESS,
    PEM_FILE,
    RATE,
    Count,
)
from meshkit.program.logs import LogFormat, LogLevel
from meshkit.program.trace_flags import Tracing
from meshkit.tracing import span_processors_of

log = structlog.stdlib.get_logger("book-server")

ACTIONS_OFF = "Actions are the client's: see the page of book-client."


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The flags; durations in seconds."""

    admin: AdminFlags
    listen: str
    advertise: str
    etcd: EtcdAccess
    etcd_prefix: str
    lease_ttl: int
    tracing: Tracing
    rate: float
    burst: int
    max_list_latency: float
    max_info_latency: float
    drain: float
    grace: float
    tls_cert: Path | None
    tls_key: Path | None
    tls_client_ca: Path | None
    tls_client_names: tuple[str, ...] | None
    max_message_bytes: int
    health_listen: str | None
    faults: bool
    log_format: LogFormat
    log_level: LogLevel


@click.command("book-server", context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@click.option("--listen", type=ADDRESS, default="0.0.0.0:50051", help="Address to accept calls on.")
@click.option(
    "--advertise", type=PEER_ADDRESS, default="127.0.0.1:50051", help="Address at which clients reach this replica."
)
@click.option(
    "--advertise-host",
    help="Host of that address, if --advertise is not given; IPv6 without brackets. The port is --listen's.",
)
@mesh_options("/services/book/")
@click.option(
    "--lease-ttl", type=Count(1, 3600), default=10, help="Seconds until a killed replica's registration ends."
)
@click.option(
    "--rate", type=RATE, default=1.0, help="Calls served per second; others wait for their turn. 0: no limit."
)
@click.option("--burst", type=Count(1), default=1, help="Calls that may be served at once after a pause.")
@click.option(
    "--max-list-latency", type=DURATION, default="200ms", help="Upper bound of GetBookList's random delay; 0s: none."
)
@click.option(
    "--max-info-latency", type=DURATION, default="200us", help="Upper bound of GetBookInfo's random delay; 0s: none."
)
@click.option("--drain", type=DURATION, default="2s", help="How long calls are still accepted after leaving etcd.")
@click.option("--grace", type=DURATION, default="10s", help="How long calls in flight may still take after --drain.")
@click.option(
    "--tls-cert", type=PEM_FILE, help="Certificate to serve with (PEM), read again when it changes; none: plaintext."
)
@click.option("--tls-key", type=PEM_FILE, help="Private key of --tls-cert (PEM), without a passphrase.")
@click.option(
    "--tls-client-ca", type=PEM_FILE, help="Authorities that sign clients' certificates (PEM); none: clients need none."
)
@click.option(
    "--tls-client-names",
    type=CERTIFICATE_NAMES,
    help="Clients that may call, by a DNS name or URI of their certificates; none: all that --tls-client-ca signs.",
)
@click.option(
    "--max-message-bytes",
    type=MESSAGE_BYTES,
    default=MAX_MESSAGE_BYTES,
    help="Largest request that is accepted, in bytes; a larger one fails with RESOURCE_EXHAUSTED, unread.",
)
@click.option("--health-listen", type=ADDRESS, help="Plaintext port for the health service alone; none: no such port.")
@click.option(
    "--faults",
    is_flag=True,
    help="Let whoever may call this server make it fail, hang or exit: for demos and tests only.",
)
def command(**flags: Any) -> int:
    """Serve books over gRPC: registered in etcd, rate-limited, traced in Zipkin.

    Each flag can be an environment variable too: --lease-ttl is BOOK_SERVER_LEASE_TTL. SIGTERM makes it leave without
    losing a call.
    """
    settings = Settings(**_advertised(**flags))
    configure_logging(settings.log_format, settings.log_level)
    sources = Sources("book-server", version("bookmesh")) if settings.admin.listen else None
    run_async(serve_books(settings, _tls(settings), sources))
    return 0


def _advertised(*, advertise_host: str | None, **flags: Any) -> dict[str, Any]:
    """The flags, with --advertise as --advertise-host says: Kubernetes tells a pod its address without brackets."""
    given = click.get_current_context().get_parameter_source("advertise") is not ParameterSource.DEFAULT
    if advertise_host is None or given:
        return flags
    host = f"[{advertise_host}]" if ":" in advertise_host else advertise_host
    port = parse_address(flags["listen"])[1]
    address = f"{host}:{port}"
    try:
        parse_address(address)
        if not port:
            raise ValueError("expected host:port, got port 0 from --listen")  # noqa: TRY301 - said in one place
    except ValueError as error:
        raise click.UsageError(f"--advertise-host is {advertise_host!r}: {error}") from error
    return flags | {"advertise": address}


def _tls(settings: Settings) -> ServerTls | None:
    cert, client_ca, names = settings.tls_cert, settings.tls_client_ca, settings.tls_client_names
    if names and client_ca is None:
        raise click.UsageError("--tls-client-names needs --tls-client-ca")
    if cert is None:
        if settings.tls_key is not None or client_ca is not None:
            raise click.UsageError("--tls-key and --tls-client-ca need --tls-cert")
        return None
    try:
        # Where clients need no certificate, the authorities are not used.
        files = PemFiles(client_ca or cert, cert, settings.tls_key)
        return ServerTls(files, require_client=client_ca is not None, client_names=names or ())
    except ValueError as error:
        raise click.UsageError(str(error)) from error


async def serve_books(settings: Settings, tls: ServerTls | None, sources: Sources | None = None) -> None:
    """Serve until SIGINT or SIGTERM; with `sources` calls are counted."""
    metrics = None if sources is None else ServerMetrics()
    limiter = DelayingLimiter(TokenBucket(settings.rate, settings.burst)) if settings.rate else None
    tracing = settings.tracing.settings()
    books = BookService(settings.max_list_latency, settings.max_info_latency)
    switch = faults.FaultSwitch() if settings.faults else None
    if switch is not None:
        log.warning("faults on demand are on", mend="leave out --faults where callers are not to break this server")

    def add_services(server: Any) -> None:
        add_BookServiceServicer_to_server(books, server)
        if switch is not None:
            add_FaultsServicer_to_server(switch, server)

    with stop_signal() as stop:
        async with (
            open_tracer(
                "book-server", address=settings.advertise, settings=tracing, version=version("bookmesh")
            ) as tracer,
            admin_port(settings.admin, sources, tracer, tracing, instance=settings.advertise, actions_off=ACTIONS_OFF),
            settings.etcd.client() as etcd,
        ):
            registrar = Registrar(etcd, settings.etcd_prefix, settings.advertise, ttl=settings.lease_ttl)
            if sources is not None:
                sources.server, sources.limiter, sources.registration = metrics, limiter, registrar
                sources.etcd, sources.spans = etcd, span_processors_of(tracer)
            async with serve(
                add_services,
                services=[SERVICE, faults.SERVICE] if switch else [SERVICE],
                listen=settings.listen,
                tls=tls,
                health_listen=settings.health_listen,
                registrar=registrar,
                interceptors=[
                    TracingServerInterceptor(tracer, [SERVICE], metrics),
                    MiddlewareInterceptor(limiter, [SERVICE]),
                    *(faults.interceptors(switch, [SERVICE]) if switch else ()),
                ],
                max_message_bytes=settings.max_message_bytes,
                drain=settings.drain,
                grace=settings.grace,
            ):
                await stop.wait()


def main() -> None:
    """Run the program, and exit."""
    run(command, "BOOK_SERVER")


if __name__ == "__main__":
    main()
