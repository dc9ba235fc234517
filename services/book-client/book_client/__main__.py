"""The program book-client: calls the book service through the mesh."""

from __future__ import annotations

from book_client import end_at_signals

if __name__ == "__main__":
    # First, as what follows takes most of a second.
    end_at_signals()

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import structlog

from book_client.caller import Caller
from book_client.conversation import Conversation, conversation_over
from book_client.fault_commands import Reach, faults
from book_client.faults import actions
from book_client.own_ip import own_ip
from book_client.tally import Tally
from meshkit import (
    ClientTls,
    Endpoint,
    Endpointer,
    HystrixBreaker,
    HystrixPolicy,
    Instancer,
    PemFiles,
    Retry,
    RoundRobin,
    channel_factory,
    configure_logging,
    open_tracer,
    run_async,
    stop_signal,
)
from meshkit.admin import Action, admin_port, forwarded
from meshkit.background import end_tasks
from meshkit.client import Balancer, EndpointSource, LeastRequest, PeakEwma, Random, RetryBudget
from meshkit.metrics import ClientMetrics, ClientSources, Sources
from meshkit.options import MAX_MESSAGE_BYTES
from meshkit.program.admin_flags import AdminFlags
from meshkit.program.cli import EtcdAccess, mesh_options, run
from meshkit.program.flags import DURATION, HOST_NAME, MESSAGE_BYTES, PAGE_URL, PEM_FILE, Count, FiniteRange
from meshkit.program.logs import LogFormat, LogLevel
from meshkit.program.output import LogOutput
from meshkit.program.trace_flags import Tracing
from meshkit.tls import PemWatch
from meshkit.tracing import span_processors_of

log = structlog.stdlib.get_logger("book-client")

# The exit code once the reader of the results has gone (`book-client | head`): as if SIGPIPE had ended it.
UNREAD = 128 + 13
# What a call is named where calls are counted: it calls two methods of one instance.
CALL = "conversation"
ACTIONS_OFF = "Actions are off: start book-client with --admin-actions, and the replicas with --faults."
BALANCERS: dict[str, Callable[[EndpointSource[int, Conversation]], Balancer[int, Conversation]]] = {
    "round-robin": RoundRobin,
    "random": Random,
    "least-request": LeastRequest,
    "peak-ewma": PeakEwma,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The flags; durations in seconds."""

    admin: AdminFlags
    admin_actions: bool
    admin_extra: str | None
    etcd: EtcdAccess
    etcd_prefix: str
    tracing: Tracing
    log_format: LogFormat
    log_level: LogLevel
    invalidate_after: float
    calls: int
    interval: float
    concurrency: int
    balancer: str
    attempts: int
    timeout: float
    breaker_timeout: float
    breaker_error_percent: float
    breaker_sleep: float
    breaker_max_concurrent: int
    breaker_volume: int
    max_message_bytes: int
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    tls_server_name: str | None


@click.group(
    "book-client",
    invoke_without_command=True,
    # It makes calls; a subcommand is the exception.
    subcommand_metavar="[faults ...]",
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
)
@mesh_options("/services/book/")
@click.option(
    "--invalidate-after",
    type=DURATION,
    default="0s",
    help="Forget all instances, so that calls fail, once etcd has been away this long; 0s: never.",
)
@click.option("--calls", type=Count(0), default=30, help="Calls to make; 0: until stopped.")
@click.option("--interval", type=DURATION, default="0s", help="Pause between calls.")
@click.option("--concurrency", type=Count(1, 10_000), default=1, help="Calls at a time.")
@click.option(
    "--balancer",
    type=click.Choice(list(BALANCERS)),
    default="round-robin",
    help="Which instance takes a call: the next; any; that with the fewest calls of this client in flight; that with"
    " the shortest expected wait.",
)
@click.option("--attempts", type=Count(1, 1000), default=3, help="Attempts of a call, the first included.")
@click.option(
    "--timeout",
    type=DURATION,
    default="100s",
    help="Time limit of a call, all attempts, and of the wait for a first instance.",
)
@click.option(
    "--breaker-timeout",
    type=DURATION,
    default="30s",
    help="Time limit of a call, all attempts; the smaller of this and --timeout holds.",
)
@click.option(
    "--breaker-error-percent",
    type=FiniteRange(0, 100, min_open=True),
    default=1.0,
    help="Percentage of failed calls in the last 10s at which the breaker opens.",
)
@click.option(
    "--breaker-sleep",
    type=DURATION,
    default="10s",
    help="How long the breaker stays open before it lets a probe through.",
)
@click.option(
    "--breaker-max-concurrent",
    type=Count(1),
    default=1000,
    help="Calls in flight at most; more are refused.",
)
@click.option(
    "--breaker-volume",
    type=Count(1),
    default=5,
    help="Least number of calls in 10s at which the breaker may open.",
)
@click.option(
    "--max-message-bytes",
    type=MESSAGE_BYTES,
    default=MAX_MESSAGE_BYTES,
    help="Largest answer that is accepted, in bytes; a larger one fails with RESOURCE_EXHAUSTED, unread.",
)
@click.option(
    "--admin-actions",
    is_flag=True,
    help="Let the live page break replicas that run with --faults, and heal them.",
)
@click.option("--admin-extra", type=PAGE_URL, hidden=True, help="More actions for the page, of a program beside this.")
@click.option("--tls-ca", type=PEM_FILE, help="Authorities that sign the servers' certificates (PEM); none: plaintext.")
@click.option(
    "--tls-cert", type=PEM_FILE, help="Own certificate, for servers that ask for one (PEM), read again when it changes."
)
@click.option("--tls-key", type=PEM_FILE, help="Private key of --tls-cert (PEM), without a passphrase.")
@click.option(
    "--tls-server-name",
    type=HOST_NAME,
    help="Name in the servers' certificates; default: the host of each instance's address.",
)
@click.pass_context
def command(context: click.Context, /, **flags: Any) -> int:
    """Call the book service: discovered in etcd, balanced, retried, guarded by a circuit breaker, traced.

    Each flag can be an environment variable too: --calls is BOOK_CLIENT_CALLS. Exits with 0 only if every call
    succeeded. SIGINT and SIGTERM let the calls in flight end.
    """
    settings = Settings(**flags)
    for name in ("timeout", "breaker_timeout"):
        if flags[name] <= 0:
            raise click.BadParameter("expected a duration above 0s", param_hint="--" + name.replace("_", "-"))
    if context.invoked_subcommand is not None:
        context.obj = Reach(settings.etcd, settings.etcd_prefix, _tls(settings))
        return 0
    output = configure_logging(settings.log_format, settings.log_level)
    sources = Sources("book-client", version("bookmesh")) if settings.admin.listen else None
    code = run_async(call_books(settings, _tls(settings), output, sources))
    return UNREAD if output is not None and output.broken else code


def _tls(settings: Settings) -> ClientTls | None:
    if settings.tls_ca is None:
        if settings.tls_cert or settings.tls_key or settings.tls_server_name:
            raise click.UsageError("--tls-cert, --tls-key and --tls-server-name need --tls-ca")
        return None
    try:
        files = PemFiles(settings.tls_ca, settings.tls_cert, settings.tls_key)
        return ClientTls(PemWatch(files), settings.tls_server_name)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


async def call_books(
    settings: Settings, tls: ClientTls | None, output: LogOutput | None = None, sources: Sources | None = None
) -> int:
    """Make the calls, log a summary, and return the exit code; with `sources` they are counted."""
    tally = Tally()
    metrics = None if sources is None else ClientMetrics(f"etcd://{settings.etcd_prefix}")
    address, tracing = own_ip(settings.etcd.endpoints[0]), settings.tracing.settings()
    try:
        with stop_signal(output) as stop:
            async with (
                open_tracer("book-client", address=address, settings=tracing, version=version("bookmesh")) as tracer,
                admin_port(
                    settings.admin, sources, tracer, tracing, instance=address or "", actions_off=ACTIONS_OFF
                ) as admin,
                settings.etcd.client() as etcd,
                Instancer(etcd, settings.etcd_prefix, invalidate_after=settings.invalidate_after or None) as instancer,
                Endpointer(
                    instancer,
                    channel_factory(
                        conversation_over,
                        tracer,
                        tls=tls,
                        max_message_bytes=settings.max_message_bytes,
                        metrics=metrics,
                    ),
                ) as endpointer,
                tls.renewing(endpointer.renew) if tls else contextlib.nullcontext(),
            ):
                client = None
                if sources is not None and metrics is not None:
                    client = ClientSources(metrics=metrics, endpoints=endpointer, discovery=instancer)
                    sources.clients.append(client)
                    sources.etcd, sources.spans = etcd, span_processors_of(tracer)
                if admin is not None:
                    admin.actions.update(await _actions(settings, endpointer, tls))
                books = guarded(settings, endpointer, client)
                await _first_of(stop.wait(), endpointer.wait_endpoints(), timeout=settings.timeout)
                caller = Caller(books, tracer, tally, stop, calls=settings.calls, interval=settings.interval)
                async with asyncio.TaskGroup() as workers:
                    for _ in range(settings.concurrency):
                        workers.create_task(caller.work())
    finally:
        _log_summary(tally, settings.log_format)
    return 1 if tally.failures else 0


async def _actions(settings: Settings, endpoints: Endpointer[Any, Any], tls: ClientTls | None) -> dict[str, Action]:
    """What can be done from the page."""
    if not settings.admin_actions:
        return {}
    of_replicas = actions(lambda: [endpoint.instance for endpoint in endpoints.endpoints], tls=tls)
    return of_replicas | (await forwarded(settings.admin_extra) if settings.admin_extra else {})


def guarded(
    settings: Settings, endpoints: EndpointSource[int, Conversation], client: ClientSources | None = None
) -> Endpoint[int, Conversation]:
    """Make the endpoint of a call: the breaker around retries around the balancer, counted where `client` is given."""
    breaker = HystrixBreaker(
        "book-service",
        HystrixPolicy(
            error_percent=settings.breaker_error_percent,
            sleep_window=settings.breaker_sleep,
            max_concurrent=settings.breaker_max_concurrent,
            request_volume=settings.breaker_volume,
        ),
    )
    # Retry keeps the breaker's limit too: its error names every attempt, and that of the breaker's timer would not.
    timeout = min(settings.timeout, settings.breaker_timeout)
    budget, calls = RetryBudget(), None
    if client is not None:
        client.budget, client.breaker = budget, breaker
        calls = client.metrics.calls_of(CALL)
    retried = None if calls is None else calls.retried
    balancer = BALANCERS[settings.balancer](endpoints)
    retry: Endpoint[int, Conversation] = Retry(
        balancer, attempts=settings.attempts, timeout=timeout, budget=budget, retried=retried
    )
    return breaker(retry) if calls is None else calls(breaker(retry))


async def _first_of(*conditions: Any, timeout: float) -> None:
    tasks = [asyncio.ensure_future(condition) for condition in conditions]
    done, pending = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    await end_tasks(pending)
    if not done:
        log.warning("no instance of the service is known", waited=timeout)


def _log_summary(tally: Tally, log_format: LogFormat) -> None:
    counts = sorted(tally.by_instance.items())
    percentiles = {
        f"p{percent}_ms": None if (seconds := tally.percentile(percent)) is None else round(seconds * 1000, 3)
        for percent in (50, 90, 99)
    }
    by_instance = dict(counts) if log_format == "json" else ",".join(f"{name}={count}" for name, count in counts)
    log.info("summary", calls=tally.calls, failures=tally.failures, by_instance=by_instance, **percentiles)


command.add_command(faults)


def main() -> None:
    """Run the program, and exit."""
    run(command, "BOOK_CLIENT")


if __name__ == "__main__":
    main()
