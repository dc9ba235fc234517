"""Discovery as the service grows: 10 to 1,000 instances, 1 to 100 watchers, on a real etcd."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.micro import nothing
from localmesh.components import EtcdServer
from meshkit import Endpoint, Endpointer, EtcdClient, Instancer, RoundRobin
from meshkit.discovery import InstanceChange

__all__ = ["growth"]

INSTANCES, WATCHERS, CHANGES = (10, 100, 1000), (1, 10, 100), 15
PREFIX = "/services/bench/"
NEWCOMER = "10.255.255.255:1"


async def growth(run_dir: Path, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A cell for each number of instances and of watchers; all watchers are in this one process."""
    cells = []
    for instances in INSTANCES:
        for watchers in WATCHERS:
            say(f"growth: {instances} instances, {watchers} watchers")
            async with EtcdServer(run_dir / f"{instances}-{watchers}") as etcd, EtcdClient([etcd.address]) as client:
                await _register(client, instances)
                cells.append({"instances": instances, "watchers": watchers, **await _cell(etcd, client, watchers)})
    return cells


async def _register(client: EtcdClient, count: int) -> None:
    lease = await client.grant(600)
    for number in range(count):
        address = f"10.0.{number // 250}.{number % 250 + 1}:50051"
        await client.put(PREFIX + address, address, lease.id)


async def _cell(etcd: EtcdServer, client: EtcdClient, watchers: int) -> dict[str, float]:
    """Time from a put or a delete to the first and the last watcher's hearing of it, in milliseconds."""
    heard: list[float] = []
    all_heard = asyncio.Event()

    def observe(change: InstanceChange) -> None:
        if NEWCOMER in change.added | change.removed:
            heard.append(time.perf_counter())
            if len(heard) == watchers:
                all_heard.set()

    async with AsyncExitStack() as stack:
        endpointers = []
        for _ in range(watchers):
            # A connection each, as so many programs would have.
            own = await stack.enter_async_context(EtcdClient([etcd.address]))
            instancer = await stack.enter_async_context(Instancer(own, PREFIX))
            await instancer.wait_instances()
            endpointers.append(await stack.enter_async_context(Endpointer(instancer, _connect)))
            instancer.subscribe(observe)
        await asyncio.sleep(0.3)
        lease = await client.grant(600)
        first, last = [], []
        cpu = time.process_time()
        for number in range(CHANGES * 2):
            heard.clear()
            all_heard.clear()
            start = time.perf_counter()
            if number % 2:
                await client.revoke(lease.id)
                lease = await client.grant(600)
            else:
                await client.put(PREFIX + NEWCOMER, NEWCOMER, lease.id)
            async with asyncio.timeout(10):
                await all_heard.wait()
            first.append((heard[0] - start) * 1e3)
            last.append((heard[-1] - start) * 1e3)
        cpu = (time.process_time() - cpu) / (CHANGES * 2 * watchers)
        pick = _pick_time(RoundRobin(endpointers[0]))
    return {
        "first_ms": statistics.median(first),
        "last_ms": statistics.median(last),
        "last_worst_ms": max(last),
        "update_cpu_us": cpu * 1e6,
        "pick_us": pick,
    }


@asynccontextmanager
async def _connect(_: str) -> AsyncIterator[Endpoint[Any, Any]]:
    yield nothing


def _pick_time(balancer: RoundRobin[Any, Any]) -> float:
    times = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(2000):
            balancer.pick()
        times.append((time.perf_counter() - start) / 2000 * 1e6)
    return statistics.median(times)
