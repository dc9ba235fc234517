"""`make soak`: calls for minutes under random faults from a seed, and a ledger that accounts for every one of them."""

import asyncio
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from localmesh.components import BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.lines import logged_at
from localmesh.measure import percentile, resident_mb
from localmesh.relay import Relay
from localmesh.sick import SickServer
from localmesh.soak.faults import STANDING, Fault, plan
from localmesh.soak.isolation import Isolation, isolate
from localmesh.soak.ledger import audit, broken_rules
from meshkit.background import end_tasks

__all__ = ["run_soak"]

ETCD_NAME = "etcd.bookmesh.test"
SERVER_FLAGS = ("--rate", "0", "--max-list-latency", "20ms", "--lease-ttl", "5", "--drain", "1s", "--grace", "5s")
# The breaker around the whole call is tested elsewhere; here it would hide what is not retried.
CLIENT_FLAGS = ("--calls", "0", "--concurrency", "4", "--interval", "80ms", "--timeout", "6s")
CLIENT_BREAKER = ("--breaker-volume", "1000000")
# What memory may do from the second quarter of a run to its last.
GROWTH_SHARE, GROWTH_MB = 0.05, 4.0
LEAST_FOR_MEMORY = 120.0


def run_soak(seed: int | None, minutes: float) -> int:
    """Run it and report; the exit code is 0 only if every rule held."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    if reason := isolate():
        console.print(f"without nodes that go and names that cannot be looked up: {reason}")
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    run_dir = Path(tempfile.mkdtemp(prefix="bookmesh-soak-"))
    console.print(f"seed {seed}, {minutes:g} minutes; again with: make soak SEED={seed} MINUTES={minutes:g}")
    faults = plan(seed, minutes * 60, isolated=not reason)
    network = None if reason else Isolation(run_dir, ETCD_NAME)
    verdict = asyncio.run(Soak(run_dir, console, network).run(faults, minutes * 60))
    console.print(f"logs: {run_dir}")
    return verdict


class Soak:
    """One run: the parts, the faults on them, the report.

    Args:
        run_dir: for logs and data.
        console: to tell of it.
        network: of the run's own; None: it has none.
    """

    def __init__(self, run_dir: Path, console: Console, network: Isolation | None) -> None:
        self._network = network
        self._run_dir = run_dir
        self._console = console
        self._etcd = EtcdServer(run_dir)
        self._zipkin = ZipkinServer(run_dir)
        self._etcd_relay = Relay(self._etcd.address)
        self._servers: list[BookServer] = []
        self._relays: list[Relay] = []
        host, _, port = self._etcd_relay.address.rpartition(":")
        self._etcd_by_name = f"{ETCD_NAME if network else host}:{port}"
        self._client = BookClient(
            run_dir,
            *(*CLIENT_FLAGS, *CLIENT_BREAKER),
            etcd=self._etcd_by_name,
            zipkin=self._zipkin.collector,
        )
        self._began = 0.0
        self._memory: dict[str, list[float]] = {}
        self._troubles: list[str] = []

    async def run(self, faults: Sequence[Fault], seconds: float) -> int:
        """Make the calls and the faults; the exit code."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._etcd.stop)
            stack.push_async_callback(self._zipkin.stop)
            await asyncio.gather(self._etcd.start(), self._zipkin.start())
            await stack.enter_async_context(self._etcd_relay)
            stack.push_async_callback(self._stop_servers)
            for _ in range(STANDING):
                await self._add_server(stack)
            stack.push_async_callback(self._client.stop)
            self._client.spawn()
            await self._client.wait_event("call", count=10)
            self._began = time.monotonic()
            watching = asyncio.create_task(self._watch_memory())
            async with asyncio.TaskGroup() as lanes:
                for on_replica in (True, False):
                    lane = [fault for fault in faults if fault.on_replica is on_replica]
                    lanes.create_task(self._inflict(lane, stack))
                lanes.create_task(asyncio.sleep(seconds))
            await asyncio.sleep(3)  # the last calls under trouble end
            await end_tasks([watching])
            if (status := await self._client.stop(grace=30)) not in {0, 1}:
                self._troubles.append(f"the client ended with status {status}")
        return self._report(faults, seconds)

    async def _add_server(self, stack: AsyncExitStack) -> BookServer:
        relay = Relay("")
        server = BookServer(
            self._run_dir,
            *SERVER_FLAGS,
            etcd=self._etcd_by_name,
            zipkin=self._zipkin.collector,
            advertise=relay.address,
        )
        relay.target = server.address
        await stack.enter_async_context(relay)
        self._servers.append(server)
        self._relays.append(relay)
        await server.start_ready()
        return server

    async def _stop_servers(self) -> None:
        running = [server for server in self._servers if server.running]
        for server, status in zip(running, await asyncio.gather(*(s.stop() for s in running)), strict=True):
            if status:
                self._troubles.append(f"{server.name} left with status {status}")

    async def _inflict(self, faults: Sequence[Fault], stack: AsyncExitStack) -> None:
        for fault in faults:
            await asyncio.sleep(max(0.0, self._began + fault.at - time.monotonic()))
            self._console.print(f"  {time.monotonic() - self._began:6.1f} s  {fault}")
            undo = await self._do(fault, stack)
            await asyncio.sleep(fault.hold)
            await undo()

    async def _do(self, fault: Fault, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
        """Do it; returns how to undo it."""
        return await (self._do_to_replica(fault, stack) if fault.on_replica else self._do_to_backend(fault.kind))

    async def _do_to_replica(  # noqa: PLR0911 - a table
        self, fault: Fault, stack: AsyncExitStack
    ) -> Callable[[], Awaitable[object]]:
        server, relay = self._servers[fault.replica], self._relays[fault.replica]
        match fault.kind:
            case "kill":
                await server.kill()
                return server.start_ready
            case "freeze":
                server.freeze()
                return _later(server.thaw)
            case "partition":
                relay.cut()
                return _later(relay.heal)
            case "scale out":
                return (await self._add_server(stack)).stop
            case "scale in":
                if status := await server.stop():
                    self._troubles.append(f"{server.name} left with status {status}")
                return server.start_ready
            case "forgotten connections":
                relay.forget()
                return _later(lambda: None)
            case "node of":
                return self._take_node_away(server, relay)
        return await self._answer_wrongly(fault.kind.removesuffix(" from"), relay)

    def _take_node_away(self, server: BookServer, relay: Relay) -> Callable[[], Awaitable[object]]:
        """What runs there stands still, and its machine no longer acknowledges what it is sent."""
        network, port = self._network, int(relay.address.rpartition(":")[2])
        assert network is not None
        network.drop(port)
        server.freeze()

        def bring_back() -> None:
            server.thaw()
            network.let_pass(port)

        return _later(bring_back)

    @staticmethod
    async def _answer_wrongly(ailment: str, relay: Relay) -> Callable[[], Awaitable[object]]:
        """Something else answers at the replica's address."""
        well, sick = relay.target, SickServer(ailment)
        await sick.__aenter__()
        relay.target = sick.address
        relay.reset()

        async def recover() -> None:
            relay.target = well
            relay.reset()
            await sick.__aexit__(None, None, None)

        return recover

    async def _do_to_backend(self, kind: str) -> Callable[[], Awaitable[object]]:
        match kind:
            case "etcd restart":
                await self._etcd.process.kill()
                return self._etcd.start
            case "etcd partition":
                self._etcd_relay.cut()
                return _later(self._etcd_relay.heal)
            case "etcd freeze":
                self._etcd.process.freeze()
                return _later(self._etcd.process.thaw)
            case "etcd's connections forgotten":
                self._etcd_relay.forget()
                return _later(lambda: None)
            case "etcd's name away":
                assert self._network is not None
                self._network.take_names_away()
                self._etcd_relay.reset()
                return _later(self._network.bring_names_back)
            case "Zipkin restart":
                await self._zipkin.process.kill()
                return self._zipkin.start
        raise ValueError(f"no such fault: {kind}")

    async def _watch_memory(self) -> None:
        watched = {"client": self._client, "replica 0": self._servers[0]}
        while True:
            for name, process in watched.items():
                with contextlib.suppress(OSError):  # It has been killed, or this is no Linux.
                    self._memory.setdefault(name, []).append(resident_mb(process.pid))
            await asyncio.sleep(2)

    def _report(self, faults: Sequence[Fault], seconds: float) -> int:
        ledger = audit(self._client.events())
        broken = self._troubles + broken_rules(ledger, next(iter(self._client.events("summary")), None))
        if seconds >= LEAST_FOR_MEMORY:
            broken += [line for name, samples in self._memory.items() if (line := _growth(name, samples))]
        kinds = Counter(fault.kind for fault in faults)
        dropped = [entry["dropped_in_all"] for entry in self._client.events("spans dropped")]
        rows = {
            "faults": f"{len(faults)}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
            "calls": f"{ledger.calls}, {len(ledger.lost)} lost from the ledger",
            "failed": f"{len(ledger.failed)} (allowed: 0, two replicas were whole at any time)",
            "retried": f"{ledger.retried}",
            "latency": ", ".join(f"p{p} {percentile(ledger.milliseconds, p):.0f} ms" for p in (50, 99, 100)),
            **{f"memory {name}": _megabytes(samples) for name, samples in self._memory.items()},
            "spans dropped": f"{dropped[-1] if dropped else 0} by the client, while Zipkin was away",
            "from": _clock(self._client.calls[0]) + " to " + _clock(self._client.calls[-1]),
        }
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name, text in rows.items():
            table.add_row(name, text)
        self._console.print()
        self._console.print(table)
        for line in broken:
            self._console.print(f"broken: {line}", style="red", markup=False)
        self._console.print("every rule held" if not broken else f"{len(broken)} rules broken")
        return 1 if broken else 0


def _later(action: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        action()

    return run


def _growth(name: str, samples: Sequence[float]) -> str | None:
    """What is wrong with the memory of a process, None if it stays flat."""
    quarter = len(samples) // 4
    early, late = median(samples[quarter : 2 * quarter]), median(samples[3 * quarter :])
    if late - early <= max(GROWTH_SHARE * early, GROWTH_MB):
        return None
    return f"memory of {name} grew from {early:.1f} MB to {late:.1f} MB"


def _megabytes(samples: Sequence[float]) -> str:
    quarter = max(1, len(samples) // 4)
    parts = [samples[start : start + quarter] for start in range(0, 4 * quarter, quarter)]
    return ", ".join(f"{median(part):.1f}" for part in parts if part) + " MB (quarters of the run)"


def _clock(entry: dict[str, Any]) -> str:
    return datetime.fromtimestamp(logged_at(entry), UTC).strftime("%H:%M:%S UTC")
