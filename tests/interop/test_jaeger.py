"""Jaeger, to which the programs send by OTLP: of every call the whole trace, judged as Zipkin's are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from localmesh.calls import Call, calls_in, missing_numbers
from localmesh.components import FAST, BookClient, BookServer, EtcdServer
from localmesh.oracle import Excuse, Verdict, judge, problems
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from tests.interop.jaeger import JaegerServer

CALLS = 500
# What a killed process has not sent yet: spans wait half a second at most.
UNSENT = 0.5


@pytest.fixture
async def jaeger(run_dir: Path) -> AsyncIterator[JaegerServer]:
    async with JaegerServer(run_dir) as server:
        yield server


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_jaeger_has_every_calls_whole_trace_though_a_replica_is_killed(
    run_dir: Path, etcd: EtcdServer, jaeger: JaegerServer, compression: str
) -> None:
    def by_otlp(instance: str) -> dict[str, str]:
        return {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp,
            "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
            # Where Zipkin has the local endpoint.
            "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={instance}",
        }

    async with AsyncExitStack() as stack:
        servers = []
        for port in (free_port() for _ in range(3)):
            env = by_otlp(f"127.0.0.1:{port}")
            server = BookServer(run_dir, *FAST, etcd=etcd.address, port=port, env=env)
            servers.append(await stack.enter_async_context(server))
        flags = ("--calls", str(CALLS), "--concurrency", "4", "--interval", "10ms", "--breaker-error-percent", "50")
        client = BookClient(run_dir, *flags, etcd=etcd.address, env=by_otlp("127.0.0.1"))
        await stack.enter_async_context(client)
        await client.wait_event("call", count=CALLS // 2)
        victim = servers[1]
        killed = time.time()
        await victim.kill()
        assert await client.wait() == 0, client.last_words()
        calls = calls_in(client.output().splitlines(), "client", "127.0.0.1")
        assert (len(calls), missing_numbers(calls)) == (CALLS, [])
        excuse = Excuse(victim.address, killed - UNSENT, time.time())
        verdict = await judged(jaeger, calls, excuse)
    assert verdict.whole + verdict.excused == CALLS, verdict
    # At this pace 25 spans a second and replica: without load each is sent at once.
    assert verdict.excused <= 10, verdict
    assert set(verdict.served) == {server.address for server in servers}
    assert {attempt.instance for attempt in verdict.failed_attempts} <= {victim.address}
    assert len(verdict.failed_attempts) == sum(call.attempts - 1 for call in calls)


async def judged(jaeger: JaegerServer, calls: list[Call], excuse: Excuse) -> Verdict:
    """The verdict on all traces, once nothing that is missing can still come."""
    traces: dict[str, list[dict[str, Any]]] = {}

    async def probe() -> None:
        missing = [call for call in calls if problems(call, traces.get(call.trace_id, ()), [excuse])]
        for start in range(0, len(missing), 8):
            some = [call.trace_id for call in missing[start : start + 8]]
            traces.update(zip(some, await asyncio.gather(*map(jaeger.trace, some)), strict=True))
        verdict = judge(calls, traces, [excuse])
        if verdict.broken:
            raise NotYetError(str(verdict))

    await until(probe, within=60, what=f"{len(calls)} whole traces", every=0.5)
    return judge(calls, traces, [excuse])
