"""`make demo`: a whole mesh on this machine; calls through it and the slowest one's trace, or a story in five acts."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from localmesh.components import BookClient
from localmesh.controls import controls, press
from localmesh.live_mesh import LiveMesh
from localmesh.measure import percentile
from localmesh.ports import free_port, preferred_port
from localmesh.process import StartError
from localmesh.story import CLIENT_FLAGS as STORY_CLIENT
from localmesh.story import LEAST_REPLICAS, Story
from localmesh.story import SERVER_FLAGS as STORY_SERVERS
from localmesh.waiting import NotYetError
from localmesh.waterfall import waterfall
from meshkit.background import end_tasks

__all__ = ["Options", "run_demo"]

PORTS = {"etcd": 2379, "Zipkin": 9411, "book-server": 50051, "admin": 8081}
PAGE_PORT = 8080
CLIENT_WITHIN = 60.0
SPANS_PER_CALL = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `python -m localmesh demo --help` says."""

    replicas: int
    calls: int
    rate: float | None
    stay: bool
    story: bool = False
    act_seconds: float = 20.0


def run_demo(options: Options) -> int:
    """Run the demo; 0 if every call succeeded (in a story: with a whole trace), 1 if not or a part did not start.

    130 after Ctrl-C, unless it stayed up for as long as that.
    """
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
    with tempfile.TemporaryDirectory(prefix="bookmesh-") as folder:
        demo = _Demo(Path(folder), options, console)
        async with AsyncExitStack() as stack:
            # Stopped in this order, the last first: the replicas leave together while etcd and Zipkin still listen.
            stack.push_async_callback(demo.mesh.zipkin.stop)
            stack.push_async_callback(demo.mesh.etcd.stop)
            stack.push_async_callback(demo.stop_programs)
            return await demo.run(await stack.enter_async_context(controls(demo.mesh.actions(), free_port())))


class _Demo:
    """The demo's parts, and what is shown with them.

    Args:
        run_dir: For logs and data.
        options: As they were given.
        console: To tell of it.
    """

    def __init__(self, run_dir: Path, options: Options, console: Console) -> None:
        self._options = options
        self._console = console
        self._began = time.monotonic()
        self.mesh = LiveMesh(run_dir, lambda wanted, what: _port(wanted, what, console), ports=PORTS)
        self._client: BookClient | None = None
        self._plan()
        self._page = f"127.0.0.1:{_port(PAGE_PORT, 'the page', console)}"
        self._controls = ""

    async def run(self, controls_url: str) -> int:
        """Start everything, show what was asked for, and stay if wanted; the exit code.

        Args:
            controls_url: Where the page's further actions are.
        """
        options, console = self._options, self._console
        self._controls = controls_url
        console.print(f"  {'the page':<12} http://{self._page}/   from the first call on")
        with console.status("starting etcd, Zipkin and the replicas"):
            zipkin = self.mesh.zipkin
            await _all_of(self._started("zipkin", zipkin.url, zipkin.start()), self._servers_after_etcd())
        status = await (self._tell_story() if options.story else self._show_calls())
        if options.stay:
            with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C: the way to end it
                while True:
                    console.print(f"\nAll of it stays up, with the page at http://{self._page}/. Ctrl-C ends it.")
                    await self._story_wanted()
                    await self._begin_anew()
                    status = await self._tell_story()
        return status

    async def stop_programs(self) -> None:
        """Stop the client, then the replicas."""
        if self._client is not None:
            await self._client.stop()
        await self.mesh.stop_servers()

    def _plan(self, *, story: bool = False) -> None:
        options = self._options
        replicas = options.replicas
        flags: tuple[str, ...] = ("--drain", "0.5s", "--faults")
        if story or options.story:
            replicas, flags = max(replicas, LEAST_REPLICAS), STORY_SERVERS
        self.mesh.plan(replicas, (*flags, *(() if options.rate is None else ("--rate", f"{options.rate:g}"))))

    async def _begin_anew(self) -> None:
        """Replace the programs by those of a story: they are not slowed down."""
        with self._console.status("starting other replicas"):
            await self.stop_programs()
            for part in (self.mesh.etcd, self.mesh.zipkin):
                if not part.process.running:
                    await part.start()
            self._plan(story=True)
            await _all_of(*(server.start_ready() for server in self.mesh.servers))

    async def _started(self, name: str, address: str, start: Awaitable[None]) -> None:
        await start
        self._console.print(f"  {name:<12} {address:<24} up after {time.monotonic() - self._began:.1f} s")

    async def _servers_after_etcd(self) -> None:
        etcd, servers = self.mesh.etcd, self.mesh.servers
        await self._started("etcd", etcd.address, etcd.start())
        await _all_of(*(self._started("book-server", s.address, s.start_ready()) for s in servers))

    def _new_client(self, *flags: str) -> BookClient:
        mesh, page = self.mesh, ("--admin", self._page, "--admin-actions", "--admin-extra", self._controls)
        self._client = BookClient(mesh.run_dir, *page, *flags, etcd=mesh.etcd.address, zipkin=mesh.zipkin.collector)
        return self._client

    async def _tell_story(self) -> int:
        client = self._new_client(*STORY_CLIENT)

        async def calls() -> None:
            if not client.calls:
                raise NotYetError("no call yet")

        await client.start(calls, within=CLIENT_WITHIN)
        mesh, options = self.mesh, self._options
        replicas = [server.address for server in mesh.servers]
        story = Story(client, mesh.zipkin, replicas, act=self._act, console=self._console, seconds=options.act_seconds)
        whole = await story.tell()
        # Where it stays up the client goes on; else its own word counts, too.
        return 0 if whole and (options.stay or await client.stop() == 0) else 1

    async def _act(self, name: str, body: Mapping[str, Any]) -> str:
        return await press(f"http://{self._page}/actions/{name}", body)

    async def _story_wanted(self) -> None:
        """Offer a story where there is somebody to offer it to, and wait until it is wanted."""
        if not sys.stdin.isatty():
            await asyncio.Event().wait()
        self._console.print(f"Enter tells a story in five acts of {self._options.act_seconds:g} s.")
        await _enter()

    async def _show_calls(self) -> int:
        """Make calls, a line each, and show the slowest one's trace; the exit code."""
        console, options = self._console, self._options
        # What stays up goes on calling.
        client = self._new_client("--calls", "0" if options.stay else str(options.calls))
        client.spawn()
        console.print()
        calls: list[dict[str, Any]] = []
        width = len(str(options.calls))
        async for entry in client.follow():
            if entry["event"] == "call":
                calls.append(entry)
                _print_call(entry, width, console)
            if len(calls) == options.calls:
                break
        if len(calls) < options.calls:
            raise client.ended_error()
        _print_summary(calls, console)
        await self._print_slowest(calls)
        failed = any(call["outcome"] != "ok" for call in calls)
        return 1 if failed else 0 if options.stay else await client.wait()

    async def _print_slowest(self, calls: Sequence[Mapping[str, Any]]) -> None:
        console, zipkin = self._console, self.mesh.zipkin
        slowest = max(calls, key=lambda call: float(call["duration_ms"]))
        trace_id = slowest["trace_id"]
        spans = await zipkin.wait_trace(trace_id, SPANS_PER_CALL if slowest["outcome"] == "ok" else 1)
        console.print(f"\nThe slowest call was number {slowest['call']}:")
        console.print(waterfall(spans, console.width))
        console.print(f"in Zipkin: {zipkin.page(trace_id)}")


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


def _print_call(entry: Mapping[str, Any], width: int, console: Console) -> None:
    outcome = entry["outcome"]
    colour = "green" if outcome == "ok" else "red"
    again = f" after {entry['attempts']} attempts" if entry["attempts"] > 1 else ""
    console.print(
        f"  call {entry['call']:>{width}}  {entry['instance']:<16} [{colour}]{outcome}[/{colour}]{again}"
        f"  {entry['duration_ms']:8.1f} ms  [dim]trace {entry['trace_id']}[/dim]"
    )
    if outcome != "ok":
        console.print(f"    {entry['error']}", style="red", markup=False)


def _print_summary(calls: Sequence[Mapping[str, Any]], console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("instance")
    table.add_column("calls", justify="right")
    for instance, count in sorted(Counter(call["instance"] for call in calls).items()):
        table.add_row(instance, str(count))
    console.print()
    console.print(table)
    console.print(f"\n{len(calls)} calls, {sum(call['outcome'] != 'ok' for call in calls)} failures")
    durations = [call["duration_ms"] for call in calls]
    console.print("latency " + ", ".join(f"p{p} {percentile(durations, p):.1f} ms" for p in (50, 90, 99)))


async def _enter() -> None:
    """Wait for a line on standard input; for ever, once that has ended."""
    loop, entered = asyncio.get_running_loop(), asyncio.Event()
    descriptor = sys.stdin.fileno()

    def read() -> None:
        if os.read(descriptor, 1024):
            entered.set()
        else:
            loop.remove_reader(descriptor)

    loop.add_reader(descriptor, read)
    try:
        await entered.wait()
    finally:
        loop.remove_reader(descriptor)


def stays_by_default() -> bool:
    """Whether a person can look around: it runs in a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()
