"""Spans: whatever the collector does, each is stored or counted as dropped, and the calls do not notice."""

import asyncio
import json
import random
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from localmesh.components import FAST, ROOT, BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.load_client import PATHS, LoadClient
from localmesh.ports import free_port
from localmesh.process import Process
from localmesh.waiting import NotYetError, until
from tests.faults.front import Front, away_half_of_every_second, overloaded, slow

SERVER = (*FAST, "--drain", "300ms")
SPANS = 100_000
QUEUE = 32_768
# The default queue's spans take about 0.4 KB each.
MOST_MB = 40
# By the sign test, what the median of so many is an estimate of lies between the third and the third last of them, 96
# times of 100.
ROUNDS, SURE = 12, 2


@contextmanager
def black_hole() -> Iterator[str]:
    """Takes connections, and never reads from them."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}/api/v2/spans"


async def spans_into(run_dir: Path, url: str, count: int = SPANS) -> dict[str, Any]:
    """The ledger of a program that makes so many spans at full speed."""
    command = [sys.executable, "-m", "tests.faults.span_source", url, str(count)]
    source = Process("source", command, run_dir=run_dir, env={"PYTHONPATH": f"{ROOT}:{PATHS}"})
    async with source:
        assert await source.wait() == 0, source.last_words()
    ledger: dict[str, Any] = json.loads(next(line for line in source.output().splitlines() if line.startswith("{")))
    return ledger


@pytest.mark.parametrize("fault", ["slow", "dead", "503", "black hole", "restarted"])
async def test_every_span_is_stored_or_counted_as_dropped(
    run_dir: Path, fault: str, figure: Callable[[str], None]
) -> None:
    stored, resent = 0, 0
    if fault == "dead":
        ledger = await spans_into(run_dir, f"http://127.0.0.1:{free_port()}/api/v2/spans")
    elif fault == "black hole":
        with black_hole() as url:
            ledger = await spans_into(run_dir, url)
    elif fault == "restarted":
        zipkin = ZipkinServer(run_dir)
        async with zipkin:
            with Front(zipkin.collector) as front:
                running = asyncio.create_task(spans_into(run_dir, front.url))
                await until(lambda: _taken(front, 1), within=30, what="spans reach Zipkin", every=0.005)
                await zipkin.process.kill()
                await zipkin.start()
                ledger = await running
        stored, resent = len(front.stored()), front.resent
    else:
        with Front(None, slow(0.2) if fault == "slow" else overloaded(5)) as front:
            ledger = await spans_into(run_dir, front.url)
        stored, resent = len(front.stored()), front.resent
    assert ledger["ended"] == SPANS
    assert ledger["ended"] == stored + ledger["dropped"]
    assert ledger["most_queued"] <= QUEUE
    assert ledger["grown_mb"] <= MOST_MB
    if fault in {"503", "restarted"}:
        assert resent > 0
    if fault in {"dead", "black hole"}:
        assert stored == 0
    figure(
        f"{fault}: {ledger['ended']:,} spans = {stored:,} stored + {ledger['dropped']:,} dropped; {resent} batches sent"
        f" again; at most {ledger['most_queued']:,} queued, memory +{ledger['grown_mb']:.0f} MB,"
        f" slowest span {ledger['slowest_ms']:.1f} ms"
    )


async def _taken(front: Front, batches: int) -> None:
    if len(front.bodies) < batches:
        raise NotYetError(f"{len(front.bodies)} batches of {front.posts} posts")


async def test_a_batch_whose_answer_was_lost_is_sent_again_and_nothing_is_doubled(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer, figure: Callable[[str], None]
) -> None:
    with Front(zipkin.collector, cut=frozenset({1, 2})) as front:
        async with BookServer(run_dir, *SERVER, etcd=etcd.address):
            client = BookClient(run_dir, "--calls", "20", etcd=etcd.address, zipkin=front.url)
            async with client:
                assert await client.wait() == 0
                assert client.events("spans")[-1]["sent"] == 60
        assert front.resent > 0
        for call in client.calls:
            trace = await zipkin.wait_trace(call["trace_id"], 3)
            assert len(trace) == len({span["id"] for span in trace}) == 3
    figure(f"{front.resent} batches stored, their answers cut off, sent again: 60 spans in Zipkin, none twice")


async def test_calls_p99_is_at_most_a_tenth_worse_with_a_sick_collector(
    run_dir: Path, etcd: EtcdServer, figure: Callable[[str], None]
) -> None:
    """Windows of load by turns, one client a collector; each window is compared with the healthy one of its round.

    A busy machine moves single ratios by far more than a tenth. So what fails is a median that is above the bound for
    certain: its confidence interval's lower end is. A second healthy collector shows what the machine alone does.
    """
    with (
        Front(None) as healthy,
        Front(None) as again,
        Front(None, slow(0.2)) as late,
        Front(None, lambda _: 503) as refusing,
        Front(None, away_half_of_every_second) as restarted,
        black_hole() as hole,
    ):
        urls = {
            "healthy": healthy.url,
            "healthy again": again.url,
            "slow": late.url,
            "503": refusing.url,
            "restarted": restarted.url,
            "dead": f"http://127.0.0.1:{free_port()}/api/v2/spans",
            "black hole": hole,
        }
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(BookServer(run_dir, *SERVER, etcd=etcd.address))
            clients = {
                name: await stack.enter_async_context(LoadClient(sys.executable, "benchmarks.ours", etcd.address, url))
                for name, url in urls.items()
            }
            for name in ("503", "dead", "black hole"):
                await fill_queue(clients[name])
            rounds: list[dict[str, float]] = []
            for number in range(ROUNDS):
                # Nobody is always the one after the same other one.
                turns = random.Random(number).sample(sorted(clients), len(clients))
                loads = {
                    name: await clients[name].command(do="load", in_flight=4, seconds=0.8, warmup=0.2) for name in turns
                }
                rounds.append({name: load["p99_us"] for name, load in loads.items()})
    ratios = {name: sorted(found[name] / found["healthy"] for found in rounds) for name in urls if name != "healthy"}
    figure(
        "p99 of calls as a ratio to that with a healthy collector, median and its 96% interval: "
        + ", ".join(f"{n} {median(r):.2f} ({r[SURE]:.2f} to {r[-1 - SURE]:.2f})" for n, r in ratios.items())
    )
    assert restarted.resent > ROUNDS / 2, f"{restarted.resent} batches sent again"
    assert {name: r[SURE] for name, r in ratios.items() if r[SURE] > 1.1} == {}


async def fill_queue(client: LoadClient) -> None:
    """Make calls until spans are dropped, which must cost no more than queueing them."""
    most = 0.0
    for _ in range(30):
        most = (await client.command(do="load", in_flight=32, seconds=2, warmup=0))["most_queued"]
        if most >= QUEUE:
            return
    pytest.fail(f"{most:,.0f} spans queued after a minute")


async def test_a_zipkin_that_restarts_within_3_s_costs_no_span(
    run_dir: Path, etcd: EtcdServer, figure: Callable[[str], None]
) -> None:
    zipkin = ZipkinServer(run_dir)
    with Front(zipkin.collector) as front:
        await zipkin.start()
        try:
            async with BookServer(run_dir, *SERVER, etcd=etcd.address, zipkin=front.url) as server:
                # At this pace the queue has room for 20 s, however long Zipkin takes to start on a busy machine.
                flags = ("--calls", "0", "--concurrency", "4", "--interval", "10ms")
                client = BookClient(run_dir, *flags, etcd=etcd.address, zipkin=front.url)
                async with client:
                    await client.wait_event("call", count=200)
                    await zipkin.stop()
                    away = len(client.calls)
                    await asyncio.sleep(3)
                    during = client.calls[away:]
                    await zipkin.start()
                    await client.wait_event("call", count=len(client.calls) + 100)
                    assert await client.stop(20) == 0
                assert await server.stop(20) == 0
            ledgers = [program.events("spans")[-1] for program in (client, server)]
            made = sum(ledger["ended"] for ledger in ledgers)
            assert [ledger["dropped"] for ledger in ledgers] == [0, 0]
            assert made == client.summary["calls"] * 5
            assert len(front.stored()) == made
            # The first of the outage may have been in the batch that the old Zipkin took last.
            for call in during[len(during) // 2 :][:50]:
                assert len(await zipkin.wait_trace(call["trace_id"], 5)) == 5
        finally:
            await zipkin.stop()
    figure(f"{client.summary['calls']:,} calls, {made:,} spans made, all stored; {len(during):,} calls in the outage")


async def test_sigterm_of_client_and_server_at_full_speed_costs_no_span(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer, figure: Callable[[str], None]
) -> None:
    before = await zipkin.counts()
    servers = [BookServer(run_dir, *SERVER, etcd=etcd.address, zipkin=zipkin.collector) for _ in range(2)]
    client = BookClient(run_dir, "--calls", "0", "--concurrency", "16", etcd=etcd.address, zipkin=zipkin.collector)
    async with servers[0], servers[1], client:
        await client.wait_event("call", count=500)
        assert await servers[0].stop(20) == 0
        await client.wait_event("call", count=len(client.calls) + 500)
        assert await client.stop(20) == 0
        assert await servers[1].stop(20) == 0
    ledgers = [program.events("spans")[-1] for program in (client, *servers)]
    made = sum(ledger["ended"] for ledger in ledgers)
    taken = (await zipkin.counts())["taken"] - before["taken"]
    assert client.summary["failures"] == 0
    assert sum(ledger["dropped"] for ledger in ledgers) == 0
    assert taken == made
    figure(f"{client.summary['calls']:,} calls: {made:,} spans made, {taken:,} taken by Zipkin, 0 dropped")
