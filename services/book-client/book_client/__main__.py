"""The program book-client: calls the book service through the mesh."""

from __future__ import annotations

from book_client import end_at_signals

if __name__ == "__main__":
    # First, as what follows takes most of a second.
    end_at_signals()

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import structlog
from opentelemetry.trace import Tracer

from book_client.conversation import Conversation, conversation_over
from book_client.tally import Tally
from meshkit import (
    ClientTls,
    Endpoint,
    Endpointer,
    HystrixBreaker,
    Instancer,
    MeshError,
    PemFiles,
    Retry,
    RetryError,
    RoundRobin,
    channel_factory,
    configure_logging,
    open_tracer,
    root_span,
    run_async,
    stop_signal,
    trace_id_of,
)
from meshkit.address import parse_address
from meshkit.client import EndpointSource
from meshkit.program.cli import EtcdAccess, mesh_options, run
from meshkit.program.flags import DURATION, PEM_FILE, FiniteRange
from meshkit.program.logs import LogFormat, LogLevel
from meshkit.tls import PemWatch

log = structlog.stdlib.get_logger("book-client")

# A refused call takes no time: without a pause, a client that calls for ever would spin while the breaker is open.
PAUSE_AFTER_REFUSAL = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The flags; durations in seconds."""

    etcd: EtcdAccess
    etcd_prefix: str
    zipkin: str | None
    log_format: LogFormat
    log_level: LogLevel
    invalidate_after: float
    calls: int
    interval: float
    concurrency: int
    attempts: int
    timeout: float
    breaker_timeout: float
    breaker_error_percent: float
    breaker_sleep: float
    breaker_max_concurrent: int
    breaker_volume: int
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    tls_server_name: str | None


@click.command("book-client", context_settings={"show_default": True, "help_option_names": ["-h", "--help"]})
@mesh_options("/services/book/")
@click.option(
    "--invalidate-after",
    type=DURATION,
    default="0s",
    help="Call nobody any more once etcd has been away this long; 0s: never.",
)
@click.option("--calls", type=click.IntRange(0), default=30, help="Calls to make; 0: until stopped.")
@click.option("--interval", type=DURATION, default="0s", help="Pause between calls.")
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=1, help="Calls at a time.")
@click.option("--attempts", type=click.IntRange(1), default=3, help="Attempts of a call, the first included.")
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
    type=click.IntRange(1),
    default=1000,
    help="Calls in flight above which more are refused.",
)
@click.option(
    "--breaker-volume", type=click.IntRange(1), default=5, help="Calls in 10s below which the breaker never opens."
)
@click.option("--tls-ca", type=PEM_FILE, help="Authorities that sign the servers' certificates (PEM); none: plaintext.")
@click.option(
    "--tls-cert", type=PEM_FILE, help="Own certificate, for servers that ask for one (PEM), read again when it changes."
)
@click.option("--tls-key", type=PEM_FILE, help="Private key of --tls-cert (PEM), without a passphrase.")
@click.option(
    "--tls-server-name", help="Name in the servers' certificates; default: the host of each instance's address."
)
def command(**flags: Any) -> int:
    """Call the book service: discovered in etcd, balanced round robin, retried, guarded by a circuit breaker, traced.

    Each flag can be an environment variable too: --calls is BOOK_CLIENT_CALLS. Exits with 0 only if every call
    succeeded. SIGINT and SIGTERM let the calls in flight end.
    """
    settings = Settings(**flags)
    for name in ("timeout", "breaker_timeout"):
        if flags[name] <= 0:
            raise click.BadParameter("expected a duration above 0s", param_hint="--" + name.replace("_", "-"))
    configure_logging(settings.log_format, settings.log_level)
    return run_async(call_books(settings, _tls(settings)))


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


async def call_books(settings: Settings, tls: ClientTls | None) -> int:
    """Make the calls and say how they went; the exit code."""
    tally = Tally()
    try:
        with stop_signal() as stop:
            async with (
                open_tracer(
                    "book-client", address=_own_ip(settings.etcd.endpoints[0]), zipkin=settings.zipkin
                ) as tracer,
                settings.etcd.client() as etcd,
                Instancer(etcd, settings.etcd_prefix, invalidate_after=settings.invalidate_after or None) as instancer,
                Endpointer(instancer, channel_factory(conversation_over, tracer, tls=tls)) as endpointer,
                tls.renewing(endpointer.renew) if tls else contextlib.nullcontext(),
            ):
                books = guarded(settings, endpointer)
                await _first_of(stop.wait(), endpointer.wait_endpoints(), timeout=settings.timeout)
                caller = Caller(books, tracer, tally, stop, calls=settings.calls, interval=settings.interval)
                async with asyncio.TaskGroup() as workers:
                    for _ in range(settings.concurrency):
                        workers.create_task(caller.work())
    finally:
        _log_summary(tally, settings.log_format)
    return 1 if tally.failures else 0


def guarded(settings: Settings, endpoints: EndpointSource[int, Conversation]) -> Endpoint[int, Conversation]:
    """A call to whichever instance's turn it is, with retries, within the breaker."""
    breaker = HystrixBreaker(
        "book-service",
        # Retry keeps this limit too: its error tells of every attempt, which a timer of the breaker's would cut off.
        timeout=None,
        error_percent=settings.breaker_error_percent,
        sleep_window=settings.breaker_sleep,
        max_concurrent=settings.breaker_max_concurrent,
        request_volume=settings.breaker_volume,
    )
    timeout = min(settings.timeout, settings.breaker_timeout)
    return breaker(Retry(RoundRobin(endpoints), attempts=settings.attempts, timeout=timeout))


class Caller:
    """Makes calls one after the other, each with a root span, a log line and a place in the tally.

    Args:
        books: the call, which takes its number.
        stop: no call begins once it is set. Set here too, when the last one begins.
        calls: how many, of all workers together; 0: until `stop` is set.
        interval: seconds between a worker's calls.
    """

    def __init__(
        self,
        books: Endpoint[int, Conversation],
        tracer: Tracer,
        tally: Tally,
        stop: asyncio.Event,
        *,
        calls: int = 0,
        interval: float = 0,
    ) -> None:
        self._books = books
        self._tracer = tracer
        self._tally = tally
        self._stop = stop
        self._calls = calls
        self._interval = interval
        self._begun = 0

    async def work(self) -> None:
        """Make calls until all have begun, or told to stop."""
        while not self._stop.is_set():
            self._begun += 1
            if self._begun == self._calls:
                # Nothing is left to pause for, here or in another worker.
                self._stop.set()
            pause = self._interval
            if not await self._call(self._begun):
                pause = max(pause, PAUSE_AFTER_REFUSAL)
            if pause:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stop.wait()

    async def _call(self, number: int) -> bool:
        """Make one call; False: it was refused on this side."""
        start = time.perf_counter()
        failure: MeshError | None = None
        with contextlib.suppress(MeshError), root_span(self._tracer, "bookCaller") as span:
            try:
                answer = await self._books(number)
            except MeshError as error:
                failure = error
                raise
        duration = time.perf_counter() - start
        facts = {"trace_id": trace_id_of(span), "duration_ms": round(duration * 1000, 3)}
        if failure is None:
            books = ", ".join(f"{book.book_id} {book.book_name}" for book in answer.books)
            book = f"{answer.book.book_id} {answer.book.book_name}"
            instance, attempts = answer.instance, answer.attempt
            log.info(
                "call", call=number, outcome="ok", instance=instance, attempts=attempts, **facts, book=book, books=books
            )
        else:
            tried = failure.attempts if isinstance(failure, RetryError) else ()
            instance, attempts = tried[-1].instance if tried else "none", len(tried)
            outcome, reason = failure.code.name, str(failure)
            log.error("call", call=number, outcome=outcome, instance=instance, attempts=attempts, **facts, error=reason)
        self._tally.add(instance, duration, failed=failure is not None)
        return failure is None or instance != "none"


async def _first_of(*conditions: Any, timeout: float) -> None:
    tasks = [asyncio.ensure_future(condition) for condition in conditions]
    done, pending = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
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


def _own_ip(peer: str) -> str | None:
    """The address that this host uses towards a peer; no packet is sent."""
    host, port = parse_address(peer)
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 1, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)
            return str(probe.getsockname()[0])
    except OSError:
        return None


def main() -> None:
    """Run the program, and exit."""
    run(command, "BOOK_CLIENT")


if __name__ == "__main__":
    main()
