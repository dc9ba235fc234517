"""Replicas that stand still while their kernel acknowledges all they are sent, and clients that call rarely."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from localmesh.components import FAST, BookClient, BookServer, EtcdServer
from tests.faults.replicas import began

Figure = Callable[[str], None]
# Their keys outlive the test: it is the connection that has to tell.
LONG_LEASE = (*FAST, "--lease-ttl", "600")
# Within so many seconds calls are back at their usual latency; the rest is for a busy machine.
FOUND, BUSY = 5.0, 1.0
USUAL_MS = 1000.0


@pytest.mark.timeout(240)
async def test_two_frozen_replicas_cost_rare_clients_no_call_and_after_5_s_no_time(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    servers = [BookServer(run_dir, *LONG_LEASE, etcd=etcd.address) for _ in range(3)]
    async with servers[0], servers[1], servers[2]:
        clients = [
            BookClient(run_dir, "--calls", "0", "--interval", f"{pace}s", etcd=etcd.address, name=f"every-{pace}-s")
            for pace in (5, 10)
        ]
        async with clients[0], clients[1]:
            # One call to each replica: none has been seen connected yet by a call that came later.
            await asyncio.gather(*(client.wait_event("call", count=3, within=120) for client in clients))
            for server in servers[:2]:
                server.freeze()
            frozen = time.time()
            await clients[1].wait_event("call", count=7, within=120)
            await asyncio.gather(*(client.stop() for client in clients))
        for server in servers[:2]:
            server.thaw()
    for client in clients:
        after = [(began(call) - frozen, call["duration_ms"]) for call in client.calls if began(call) > frozen]
        told = ", ".join(f"{start:+.1f} s: {duration:.0f} ms" for start, duration in after)
        figure(f"{client.name}: {told}; {client.summary['failures']} failed")
        assert client.summary["failures"] == 0
        late = [duration for start, duration in after if start > FOUND + BUSY]
        assert late, told
        assert max(late) < USUAL_MS, told
