"""`make soak`: calls for minutes under random faults from a seed, and a ledger that accounts for every one of them."""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from localmesh.components import BookClient, BookServer, Etcd, Zipkin
from localmesh.partition import Relay

__all__ = ["Fault", "Ledger", "audit", "broken_rules", "plan", "run_soak"]

# Replica 0 is never touched: its memory is measured, and something has to be whole.
STANDING = 4
REPLICA_FAULTS = ("kill", "freeze", "partition", "scale out", "scale in")
BACKEND_FAULTS = ("etcd restart", "etcd partition", "etcd freeze", "Zipkin restart")
SERVER_FLAGS = ("--rate", "0", "--max-list-latency", "20ms", "--lease-ttl", "5", "--drain", "1s", "--grace", "5s")
# The breaker around the whole call is tested elsewhere; here it would hide what is not retried.
CLIENT_FLAGS = ("--calls", "0", "--concurrency", "4", "--interval", "80ms", "--timeout", "6s")
CLIENT_BREAKER = ("--breaker-volume", "1000000")
# What memory may do from the second quarter of a run to its last.
GROWTH_SHARE, GROWTH_BYTES = 0.05, 4 * 1024 * 1024
LEAST_FOR_MEMORY = 120.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done `at` seconds from the start, and undone `hold` seconds later."""

    at: float
    kind: str
    replica: int
    hold: float

    def __str__(self) -> str:
        """Say it in words."""
        what = f"{self.kind} replica {self.replica}" if self.kind in REPLICA_FAULTS else self.kind
        return f"{what} for {self.hold:.1f} s"


def plan(seed: int, seconds: float) -> list[Fault]:
    """The faults of a run; the same for the same seed.

    At most one replica and one of etcd and Zipkin are in trouble at a time, and two replicas at least are not: with
    three attempts no call may fail.
    """
    rng = random.Random(seed)
    faults = []
    for kinds in (REPLICA_FAULTS, BACKEND_FAULTS):
        at = rng.uniform(1, 4)
        while (hold := rng.uniform(1, 8)) + at < seconds:
            faults.append(Fault(at, rng.choice(kinds), rng.randrange(1, STANDING), hold))
            # What has been undone gets some time to recover, not always enough.
            at += hold + rng.uniform(2, 8)
    return sorted(faults, key=lambda fault: fault.at)


@dataclass(slots=True)
class Ledger:
    """What became of every call."""

    calls: int = 0
    lost: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    retried: int = 0
    milliseconds: list[float] = field(default_factory=list)


def audit(entries: Sequence[dict[str, Any]]) -> Ledger:
    """Account for every call that the client's log says was begun; `lost` ones have no outcome."""
    outcomes = Counter(entry["call"] for entry in entries if entry["event"] == "call")
    begun = {entry["call"] for entry in entries if entry["event"] == "picked"} | outcomes.keys()
    ledger = Ledger(calls=max(begun, default=0))
    ledger.lost = [number for number in range(1, ledger.calls + 1) if not outcomes[number]]
    ledger.twice = [number for number, count in outcomes.items() if count > 1]
    for entry in entries:
        if entry["event"] == "call":
            ledger.retried += entry["attempts"] > 1
            ledger.milliseconds.append(entry["duration_ms"])
            if entry["outcome"] != "ok":
                ledger.failed.append(entry)
    ledger.milliseconds.sort()
    return ledger


def broken_rules(ledger: Ledger, summary: dict[str, Any] | None) -> list[str]:
    """What is wrong with the calls, a line a rule; `summary` is what the client says of them at its end, if it did."""
    broken = []
    if ledger.lost:
        broken.append(f"{len(ledger.lost)} calls have no outcome: {ledger.lost[:10]}")
    if ledger.twice:
        broken.append(f"{len(ledger.twice)} calls have more than one outcome: {ledger.twice[:10]}")
    if summary is None:
        broken.append("the client ended without its summary")
    elif (summary["calls"], summary["failures"]) != (ledger.calls, len(ledger.failed)):
        broken.append(f"the client's summary says {summary['calls']} calls, {summary['failures']} failed")
    return broken + [f"call {call['call']} failed: {call['error'][:400]}" for call in ledger.failed[:5]]


def run_soak(seed: int | None, minutes: float) -> int:
    """Run it and report; the exit code is 0 only if every rule held."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 120
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    run_dir = Path(tempfile.mkdtemp(prefix="bookmesh-soak-"))
    console.print(f"seed {seed}, {minutes:g} minutes; again with: make soak SEED={seed} MINUTES={minutes:g}")
    verdict = asyncio.run(Soak(run_dir, console).run(plan(seed, minutes * 60), minutes * 60))
    console.print(f"logs: {run_dir}")
    return verdict


class Soak:
    """One run: the parts, the faults on them, the report."""

    def __init__(self, run_dir: Path, console: Console) -> None:
        self._run_dir = run_dir
        self._console = console
        self._etcd = Etcd(run_dir)
        self._zipkin = Zipkin(run_dir)
        self._etcd_relay = Relay(self._etcd.address)
        self._servers: list[BookServer] = []
        self._relays: list[Relay] = []
        self._client = BookClient(
            run_dir,
            *(*CLIENT_FLAGS, *CLIENT_BREAKER),
            etcd=self._etcd_relay.address,
            zipkin=self._zipkin.collector,
        )
        self._began = 0.0
        self._memory: dict[str, list[int]] = {}
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
                for kinds in (REPLICA_FAULTS, BACKEND_FAULTS):
                    lanes.create_task(self._inflict([fault for fault in faults if fault.kind in kinds], stack))
                lanes.create_task(asyncio.sleep(seconds))
            await asyncio.sleep(3)  # the last calls under trouble end
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            if (status := await self._client.stop(grace=30)) not in {0, 1}:
                self._troubles.append(f"the client ended with status {status}")
        return self._report(faults, seconds)

    async def _add_server(self, stack: AsyncExitStack) -> BookServer:
        relay = Relay("")
        server = BookServer(
            self._run_dir,
            *SERVER_FLAGS,
            etcd=self._etcd.address,
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

    async def _do(  # noqa: C901, PLR0911 - a table
        self, fault: Fault, stack: AsyncExitStack
    ) -> Callable[[], Awaitable[object]]:
        """Do it; returns how to undo it."""
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
            case "etcd restart":
                await self._etcd.process.kill()
                return self._etcd.start
            case "etcd partition":
                self._etcd_relay.cut()
                return _later(self._etcd_relay.heal)
            case "etcd freeze":
                self._etcd.process.freeze()
                return _later(self._etcd.process.thaw)
            case "Zipkin restart":
                await self._zipkin.process.kill()
                return self._zipkin.start
        raise ValueError(f"no such fault: {fault.kind}")

    async def _watch_memory(self) -> None:
        watched = {"client": self._client, "replica 0": self._servers[0]}
        while True:
            for name, process in watched.items():
                self._memory.setdefault(name, []).append(_resident(process.pid))
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
            "latency": ", ".join(f"p{p} {_percentile(ledger.milliseconds, p):.0f} ms" for p in (50, 99, 100)),
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


def _growth(name: str, samples: Sequence[int]) -> str | None:
    """What is wrong with the memory of a process, None if it stays flat."""
    quarter = len(samples) // 4
    early, late = median(samples[quarter : 2 * quarter]), median(samples[3 * quarter :])
    if late - early <= max(GROWTH_SHARE * early, GROWTH_BYTES):
        return None
    return f"memory of {name} grew from {early / 2**20:.1f} MB to {late / 2**20:.1f} MB"


def _resident(pid: int) -> int:
    """Bytes of a process in memory; Linux tells in kB."""
    if sys.platform != "linux":
        return 0
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


def _megabytes(samples: Sequence[int]) -> str:
    quarter = max(1, len(samples) // 4)
    parts = [samples[start : start + quarter] for start in range(0, 4 * quarter, quarter)]
    return ", ".join(f"{median(part) / 2**20:.1f}" for part in parts if part) + " MB (quarters of the run)"


def _percentile(ordered: Sequence[float], percent: float) -> float:
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)] if ordered else 0.0


def _clock(entry: dict[str, Any]) -> str:
    return datetime.fromisoformat(entry["timestamp"]).strftime("%H:%M:%S UTC")
