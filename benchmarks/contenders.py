"""The contenders, each with servers and a load client in processes of their own."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from localmesh.components import FAST, TOOLS, BookServer, EtcdServer, ZipkinServer
from localmesh.load_client import PATHS, LoadClient
from localmesh.measure import cpu_seconds, resident_mb
from localmesh.ports import free_port
from localmesh.process import Process
from localmesh.waiting import NotYetError, until

__all__ = [
    "BARE",
    "BARE_UVLOOP",
    "TRACED",
    "UNTRACED",
    "USUAL",
    "USUAL_ROOT",
    "Contender",
    "Contenders",
    "Ending",
    "quiet",
]

BENCH_PYTHON = TOOLS / "bench-env/bin/python"
# The contenders, and the titles that tables and plot show.
BARE, BARE_UVLOOP = "bare", "bare-uvloop"
USUAL, USUAL_ROOT = "usual", "usual-root"
UNTRACED, TRACED = "untraced", "traced"
TITLES = {
    BARE: "bare grpc.aio",
    BARE_UVLOOP: "bare grpc.aio on uvloop",
    USUAL: "usual stack",
    USUAL_ROOT: "usual stack with a root span",
    UNTRACED: "bookmesh, untraced",
    TRACED: "bookmesh, traced",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of all spans of a run: `dropped` as the programs have counted, the rest as Zipkin has."""

    title: str
    made: int
    dropped: int | None
    taken: int
    dropped_by_zipkin: int

    def as_json(self) -> dict[str, Any]:
        """For the results' file."""
        return asdict(self) | {"lost": self.made - self.taken - (self.dropped or 0)}


class Contender:
    """One way to make the calls."""

    def __init__(
        self, key: str, client: LoadClient, servers: Sequence[Process], zipkin: ZipkinServer | None = None
    ) -> None:
        self.key = key
        self.title = TITLES[key]
        self.client = client
        self.servers = servers
        self.zipkin = zipkin

    @property
    def pids(self) -> list[int]:
        """All its processes, Zipkin's included."""
        return [self.client.pid, *self._server_pids, *([self.zipkin.process.pid] if self.zipkin else [])]

    @property
    def _server_pids(self) -> list[int]:
        return [server.pid for server in self.servers]

    async def load(self, in_flight: int, seconds: float, warmup: float = 0.5) -> dict[str, float]:
        """What it does under load, the servers' side and Zipkin's included; then wait until it rests."""
        servers = sum(map(cpu_seconds, self._server_pids))
        zipkin = cpu_seconds(self.zipkin.process.pid) if self.zipkin else 0.0
        found = await self.client.command(do="load", in_flight=in_flight, seconds=seconds, warmup=warmup)
        # The warm-up's calls are not in `calls`: its share of the servers' CPU is left out by time.
        share = seconds / (seconds + warmup) / found["calls"] * 1e6
        found["server_cpu_us"] = (sum(map(cpu_seconds, self._server_pids)) - servers) * share
        found["zipkin_cpu_us"] = (cpu_seconds(self.zipkin.process.pid) - zipkin if self.zipkin else 0.0) * share
        found["server_rss_mb"] = self.server_memory()
        await self.rest()
        return found

    def server_memory(self) -> float:
        """Resident MB of the largest server."""
        return max(map(resident_mb, self._server_pids))

    async def end(self) -> Ending:
        """Stop client and servers, then ask Zipkin. Our servers tell of their spans, a usual client of all spans."""
        assert self.zipkin is not None
        client = await self.client.command(do="flush")
        await self.client.close()
        made, dropped = client["made"], client.get("dropped", 0)
        for server in self.servers:
            await server.stop()
            if isinstance(server, BookServer):
                spans = server.events("spans")[-1]
                made, dropped = made + spans["ended"], dropped + spans["dropped"]
        counts = await self.zipkin.counts()
        return Ending(self.title, made, dropped, counts["taken"], counts["dropped"])

    async def rest(self) -> None:
        """Have it send the spans that wait, and wait until none of its processes is busy."""
        await self.client.command(do="flush")
        if self.key in {USUAL, USUAL_ROOT}:
            # See benchmarks.usual: they send the spans that wait.
            for server in self.servers:
                server.send(signal.SIGUSR1)
        await quiet(self.pids)


class Contenders:
    """All of them, up and running."""

    def __init__(self, run_dir: Path, *, servers: int = 2, only: Sequence[str] = tuple(TITLES)) -> None:
        self._run_dir = run_dir
        self._servers = servers
        self._only = only
        self._stack = AsyncExitStack()
        self.all: list[Contender] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for key in self._only:
                self.all.append(await self._make(key, stack, self._run_dir / key))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _make(self, key: str, stack: AsyncExitStack, run_dir: Path) -> Contender:
        if key in {BARE, BARE_UVLOOP}:
            return await self._make_bare(key, stack, run_dir, "asyncio" if key == BARE else "uvloop")
        zipkin = None if key == UNTRACED else await stack.enter_async_context(ZipkinServer(run_dir))
        if zipkin is not None and key in {USUAL, USUAL_ROOT}:
            return await self._make_usual(key, stack, run_dir, zipkin)
        return await self._make_ours(key, stack, run_dir, zipkin)

    async def _make_bare(self, key: str, stack: AsyncExitStack, run_dir: Path, loop: str) -> Contender:
        servers = await self._static_servers(stack, run_dir, sys.executable, "bare", loop)
        addresses = ",".join(server.command[-2] for server in servers)
        client = await stack.enter_async_context(
            LoadClient(sys.executable, "benchmarks.bare", "client", addresses, loop)
        )
        return Contender(key, client, servers)

    async def _make_usual(self, key: str, stack: AsyncExitStack, run_dir: Path, zipkin: ZipkinServer) -> Contender:
        servers = await self._static_servers(stack, run_dir, BENCH_PYTHON, "usual", zipkin.collector)
        addresses = ",".join(server.command[-2] for server in servers)
        role = "client" if key == USUAL else "client-with-root"
        client = LoadClient(BENCH_PYTHON, "benchmarks.usual", role, addresses, zipkin.collector)
        return Contender(key, await stack.enter_async_context(client), servers, zipkin)

    async def _make_ours(
        self, key: str, stack: AsyncExitStack, run_dir: Path, zipkin: ZipkinServer | None
    ) -> Contender:
        collector = zipkin.collector if zipkin else "off"
        etcd = await stack.enter_async_context(EtcdServer(run_dir))
        servers = [BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=collector) for _ in range(self._servers)]
        for server in servers:
            await server.start_ready()
            stack.push_async_exit(server)
        client = LoadClient(sys.executable, "benchmarks.ours", etcd.address, collector)
        return Contender(key, await stack.enter_async_context(client), servers, zipkin)

    async def _static_servers(
        self, stack: AsyncExitStack, run_dir: Path, python: str | Path, module: str, *arguments: str
    ) -> list[Process]:
        servers = []
        for number in range(self._servers):
            address = f"127.0.0.1:{free_port()}"
            command = [python, "-m", f"benchmarks.{module}", "server", address, *arguments]
            server = Process(f"server{number}", command, run_dir=run_dir, env={"PYTHONPATH": PATHS})

            async def ready(server: Process = server) -> None:
                if "ready" not in server.output():
                    raise NotYetError("not ready yet")

            await server.start(ready, within=30)
            stack.push_async_exit(server)
            servers.append(server)
        return servers


async def quiet(pids: Sequence[int], *, within: float = 10.0) -> None:
    """Wait until these processes together use less than 5% of a core."""
    used = -1.0

    async def probe() -> None:
        nonlocal used
        before = sum(map(cpu_seconds, pids))
        await asyncio.sleep(0.2)
        used = (sum(map(cpu_seconds, pids)) - before) / 0.2
        if used > 0.1:
            raise NotYetError(f"{used:.0%} of a core")

    await until(probe, within=within, what="quiet after the load")
