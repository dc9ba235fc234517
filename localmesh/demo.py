"""`make demo`: a whole mesh on this machine, calls through it, and the slowest call's trace read back from Zipkin."""

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from localmesh.components import BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.ports import preferred_port
from localmesh.process import StartError
from localmesh.waterfall import waterfall
from meshkit.background import end_tasks

__all__ = ["Options", "run_demo"]

ETCD_PORT, ZIPKIN_PORT, SERVER_PORT = 2379, 9411, 50051
SPANS_PER_CALL = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `python -m localmesh demo --help` says."""

    replicas: int
    calls: int
    rate: float | None
    stay: bool


def run_demo(options: Options) -> int:
    """Run the demo; the client's exit code, 1 where a part did not start, 130 after Ctrl-C."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    try:
        return asyncio.run(_interruptible(_demo(options, console)))
    except StartError as error:
        console.print(str(error), style="red", markup=False)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


async def _interruptible(demo: Awaitable[int]) -> int:
    """Have SIGINT, SIGTERM and SIGHUP cancel the demo, which then stops its parts; a second one makes it hurry."""
    task = asyncio.ensure_future(demo)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(number, task.cancel)
    return await task


async def _demo(options: Options, console: Console) -> int:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bookmesh-") as folder:
        run_dir = Path(folder)
        etcd = EtcdServer(run_dir, port=_port(ETCD_PORT, "etcd", console))
        zipkin = ZipkinServer(run_dir, port=_port(ZIPKIN_PORT, "Zipkin", console))
        servers = [
            BookServer(
                run_dir,
                *(() if options.rate is None else ("--rate", f"{options.rate:g}")),
                *("--drain", "0.5s"),
                etcd=etcd.address,
                zipkin=zipkin.collector,
                port=_port(SERVER_PORT + number, f"book-server {number + 1}", console),
            )
            for number in range(options.replicas)
        ]
        client = BookClient(run_dir, "--calls", str(options.calls), etcd=etcd.address, zipkin=zipkin.collector)

        async with AsyncExitStack() as stack:
            # Stopped in this order, the last first: the replicas leave together while etcd and Zipkin still listen.
            stack.push_async_callback(zipkin.stop)
            stack.push_async_callback(etcd.stop)
            stack.push_async_callback(_stop_all, servers)
            stack.push_async_callback(client.stop)
            with console.status("starting etcd, Zipkin and the replicas"):
                await _all_of(
                    _started(console, began, "zipkin", zipkin.url, zipkin.start()),
                    _servers_after_etcd(console, began, etcd, servers),
                )
            console.print()
            status = await _make_calls(client, console, options.calls)
            _print_summary(client, console)
            slowest = await _print_slowest(client, zipkin, console)
            if options.stay:
                console.print(f"\nAll of it stays up: {slowest or zipkin.url}\nCtrl-C ends it.")
                with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C: the way to end it
                    await asyncio.Event().wait()
            return status


def _port(wanted: int, what: str, console: Console) -> int:
    port = preferred_port(wanted)
    if port != wanted:
        console.print(f"[yellow]port {wanted} is taken: {what} takes {port}[/yellow]")
    return port


async def _all_of(*parts: Awaitable[None]) -> None:
    """Await all; where one fails, cancel the others and raise its error alone."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end_tasks(tasks)


async def _started(console: Console, began: float, name: str, address: str, start: Awaitable[None]) -> None:
    await start
    console.print(f"  {name:<12} {address:<24} up after {time.monotonic() - began:.1f} s")


async def _servers_after_etcd(console: Console, began: float, etcd: EtcdServer, servers: list[BookServer]) -> None:
    await _started(console, began, "etcd", etcd.address, etcd.start())
    await _all_of(*(_started(console, began, "book-server", s.address, s.start_ready()) for s in servers))


async def _stop_all(servers: list[BookServer]) -> None:
    await asyncio.gather(*(server.stop() for server in servers))


async def _make_calls(client: BookClient, console: Console, calls: int) -> int:
    """Run the client to its end, a line a call."""
    client.spawn()
    width = len(str(calls))
    async for entry in client.follow():
        if entry["event"] != "call":
            continue
        outcome = entry["outcome"]
        colour = "green" if outcome == "ok" else "red"
        again = f" after {entry['attempts']} attempts" if entry["attempts"] > 1 else ""
        console.print(
            f"  call {entry['call']:>{width}}  {entry['instance']:<16} [{colour}]{outcome}[/{colour}]{again}"
            f"  {entry['duration_ms']:8.1f} ms  [dim]trace {entry['trace_id']}[/dim]"
        )
        if outcome != "ok":
            console.print(f"    {entry['error']}", style="red", markup=False)
    return await client.wait()


def _print_summary(client: BookClient, console: Console) -> None:
    summaries = client.events("summary")
    if not summaries:
        raise client.ended_error()
    summary = summaries[-1]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("instance")
    table.add_column("calls", justify="right")
    for instance, count in summary["by_instance"].items():
        table.add_row(instance, str(count))
    console.print()
    console.print(table)
    console.print(f"\n{summary['calls']} calls, {summary['failures']} failures")
    if summary["calls"]:
        console.print("latency " + ", ".join(f"p{p} {summary[f'p{p}_ms']:.1f} ms" for p in (50, 90, 99)))


async def _print_slowest(client: BookClient, zipkin: ZipkinServer, console: Console) -> str | None:
    """Draw the slowest call's trace; its address in Zipkin's page."""
    calls = client.calls
    if not calls:
        return None
    slowest: dict[str, Any] = max(calls, key=lambda call: float(call["duration_ms"]))
    trace_id = slowest["trace_id"]
    expected = SPANS_PER_CALL if slowest["outcome"] == "ok" else 1
    spans = await zipkin.wait_trace(trace_id, expected)
    console.print(f"\nThe slowest call was number {slowest['call']}:")
    console.print(waterfall(spans, console.width))
    page = zipkin.page(trace_id)
    console.print(f"in Zipkin: {page}")
    return page


def stays_by_default() -> bool:
    """Whether a person can look around: it runs in a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()
