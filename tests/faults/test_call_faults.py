"""Replicas that hang, fail and come and go, under clients that call all the time."""

import asyncio
import gc
import itertools
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from book_pb2 import BookInfoParams
from book_pb2_grpc import BookServiceStub

from localmesh.components import BookClient, BookServer, EtcdServer
from localmesh.lines import logged_at
from localmesh.measure import percentile
from localmesh.waiting import NotYetError, until
from meshkit import Endpoint, Endpointer, EtcdClient, Instancer, Retry, RoundRobin, channel_factory
from meshkit.deadline import remaining
from tests.faults.replicas import SHORT_LEASE, SickServer, began, share_of, wait_ok

Figure = Callable[[str], None]
STEADY = ("--calls", "0", "--concurrency", "4", "--interval", "15ms")
# The breaker around the whole call stays closed: what is shown is what lies within it.
NO_BREAKER = ("--breaker-volume", "1000000")


async def test_a_hung_instance_fails_no_call_and_once_known_costs_none_more_than_250_ms(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    servers = [BookServer(run_dir, *SHORT_LEASE, etcd=etcd.address) for _ in range(3)]
    async with servers[0], servers[1], servers[2]:
        client = BookClient(run_dir, *STEADY, *NO_BREAKER, "--timeout", "500ms", etcd=etcd.address)
        async with client:
            await client.wait_event("call", count=100)
            servers[0].freeze()
            frozen = time.time()
            known = logged_at(await client.wait_event("instance ejected"))
            await asyncio.sleep(10)
            await client.stop()
        servers[0].thaw()
    after = [call["duration_ms"] for call in client.calls if began(call) > known]
    p99 = percentile(after, 99)
    figure(
        f"known after {known - frozen:.1f} s; then p99 {p99:.0f} ms, longest {max(after):.0f} ms of {len(after)} calls;"
        f" {client.summary['failures']} failed"
    )
    assert client.summary["failures"] == 0
    assert p99 <= 250


async def test_a_sick_replica_keeps_2_percent_of_the_calls_and_is_back_within_10_s(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    sick = SickServer(run_dir, etcd=etcd.address)
    servers = [BookServer(run_dir, *SHORT_LEASE, etcd=etcd.address) for _ in range(2)]
    async with servers[0], servers[1], sick:
        client = BookClient(run_dir, *STEADY, *NO_BREAKER, "--concurrency", "6", etcd=etcd.address)
        async with client:
            await client.wait_event("call", count=100)
            sick.fail(0.5)
            fell_ill = time.time()
            await asyncio.sleep(30)
            sick.fail(0)
            well = time.time()

            async def back() -> None:
                last_second = [pick for pick in client.events("picked") if logged_at(pick) > time.time() - 1]
                if (share := share_of(sick.address, last_second)) < 0.3:
                    raise NotYetError(f"a share of {share:.1%}")

            await until(back, within=15, what="the replica has its share again", every=0.25)
            returned = time.time()
            await client.stop()
    picks = client.events("picked")
    while_ill = [pick for pick in picks if fell_ill + 5 < logged_at(pick) < well]
    calls, ill = len(while_ill), share_of(sick.address, while_ill)
    figure(f"share {ill:.1%} of {calls} attempts from 5 s on; back {returned - well:.1f} s after its recovery")
    assert ill <= 0.02
    assert returned - well <= 10
    assert client.summary["failures"] == 0


async def test_with_every_instance_sick_calls_go_out_and_the_breaker_opens_probes_once_and_closes(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    sick = [SickServer(run_dir, etcd=etcd.address) for _ in range(3)]
    guard = ("--breaker-volume", "20", "--breaker-error-percent", "50", "--breaker-sleep", "1s")
    async with sick[0], sick[1], sick[2]:
        bare = BookClient(run_dir, *STEADY, *NO_BREAKER, etcd=etcd.address, name="without-breaker")
        guarded = BookClient(run_dir, *STEADY, *guard, etcd=etcd.address, name="with-breaker")
        async with bare, guarded:
            await asyncio.gather(bare.wait_event("call", count=50), guarded.wait_event("call", count=50))
            for server in sick:
                server.fail(1)
            await bare.wait_event("instance ejected", count=3)
            all_ejected = time.time()
            await asyncio.sleep(6)
            for server in sick:
                server.fail(0)
            well = time.time()
            first_bare, first_guarded = await asyncio.gather(wait_ok(bare, well), wait_ok(guarded, well))
            await asyncio.sleep(2)
            last = len(guarded.calls)
            await guarded.wait_event("call", count=last + 20)
            await asyncio.gather(bare.stop(), guarded.stop())

    out = Counter(pick["instance"] for pick in bare.events("picked") if all_ejected < logged_at(pick) < well)
    assert all(out[server.address] > 20 for server in sick), out
    refused = [call for call in guarded.calls if "is open" in call.get("error", "")]
    opened = began(refused[0])
    # What went out between opening and closing: the probes, one a sleep window.
    probes = [call for call in guarded.calls if call not in refused and opened < began(call) < logged_at(first_guarded)]
    gaps = [logged_at(second) - logged_at(first) for first, second in itertools.pairwise(probes)]
    assert probes
    assert all(gap > 0.9 for gap in gaps), gaps
    assert all(call["outcome"] == "ok" for call in guarded.calls[last:])
    figure(
        f"{out.total()} attempts went out in 6 s with all three ejected; {len(refused)} calls refused, {len(probes)}"
        f" probes at least {min(gaps, default=0):.1f} s apart; good again after {logged_at(first_bare) - well:.2f} s,"
        f" with the breaker {logged_at(first_guarded) - well:.2f} s"
    )


async def test_with_every_instance_failing_attempts_are_at_most_a_fifth_more_than_calls(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    sick = [SickServer(run_dir, etcd=etcd.address) for _ in range(3)]
    for server in sick:
        server.fail(1)
    async with sick[0], sick[1], sick[2]:
        client = BookClient(run_dir, *STEADY, *NO_BREAKER, etcd=etcd.address)
        async with client:

            async def reserve_spent() -> float:
                for call in client.calls:
                    if "retry budget spent" in call["error"]:
                        return logged_at(call)
                raise NotYetError(f"{len(client.calls)} calls")

            spent = await until(reserve_spent, within=60, what="the reserve of retries is spent", every=0.25)
            await client.wait_event("call", count=len(client.calls) + 300)
            await client.stop()
    calls = [call for call in client.calls if began(call) > spent]
    attempts = sum(call["attempts"] for call in calls)
    figure(f"{attempts} attempts for {len(calls)} calls: {attempts / len(calls):.2f} a call")
    assert len(calls) > 200
    assert attempts <= 1.2 * len(calls) + 1


def info_over(channel: grpc.aio.Channel, instance: str) -> Endpoint[int, str]:
    stub = BookServiceStub(channel)

    async def get_info(number: int) -> str:
        answer = await stub.GetBookInfo(BookInfoParams(book_id=number), timeout=remaining())
        assert answer.book_id == number
        return instance

    return get_info


async def test_a_set_that_changes_100_times_a_second_fails_no_call_and_leaves_nothing(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    prefix = "/services/churn/"
    servers = [BookServer(run_dir, *SHORT_LEASE, etcd=etcd.address) for _ in range(4)]
    async with servers[0], servers[1], servers[2], servers[3]:
        steady, changing = servers[0].address, [server.address for server in servers[1:]]
        leases: dict[str, int] = {}

        async def add(address: str) -> None:
            leases[address] = (await etcd_client.grant(600)).id
            await etcd_client.put(prefix + address, address, leases[address])

        for address in (steady, *changing):
            await add(address)
        async with (
            Instancer(etcd_client, prefix) as instancer,
            Endpointer(instancer, channel_factory(info_over)) as endpointer,
        ):
            call = Retry(RoundRobin(endpointer), timeout=5)
            await endpointer.wait_endpoints()
            made, answers = 0, Counter[str]()

            async def caller(until_time: float) -> None:
                nonlocal made
                while time.monotonic() < until_time:
                    made += 1
                    answers[await call(made)] += 1
                    await asyncio.sleep(0.02)

            await asyncio.gather(*(caller(time.monotonic() + 1) for _ in range(8)))
            # In a task of its own, as `until` asks later.
            before = await asyncio.create_task(_in_use())
            callers = [asyncio.create_task(caller(time.monotonic() + 10)) for _ in range(8)]
            changes, start = 0, time.monotonic()

            async def change(address: str, number: int) -> None:
                """Every third of the changes: side by side, as each has to wait for etcd's disk."""
                nonlocal changes
                for turn in itertools.count():
                    await asyncio.sleep(max(0.0, start + (turn * len(changing) + number) / 100 - time.monotonic()))
                    there = turn % 2 == 0
                    if there and time.monotonic() > start + 10:
                        return
                    await (etcd_client.revoke(leases[address]) if there else add(address))
                    changes += 1

            await asyncio.gather(*(change(address, number) for number, address in enumerate(changing)), *callers)

            async def settled() -> dict[str, int]:
                gc.collect()
                now_in_use = await _in_use()
                if any(now_in_use[what] > before[what] for what in before):
                    raise NotYetError(f"{now_in_use}, before {before}")
                return now_in_use

            after = await until(settled, within=20, what="no more tasks, channels and descriptors than before")
    figure(f"{changes} changes, {made} calls, none failed; {before} before, {after} after")
    assert changes >= 900
    assert set(answers) == {steady, *changing}


async def _in_use() -> dict[str, int]:
    return {
        "tasks": len(asyncio.all_tasks()),
        "channels": sum(issubclass(type(thing), grpc.aio.Channel) for thing in gc.get_objects()),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


def wrong(context: grpc.ServicerContext, number: int) -> bytes:
    """Something else each time."""
    statuses = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED)
    if turn := number % 4:
        context.abort(statuses[turn - 1], "wrong")
    return b"\xff\xff\xff"


async def test_one_replica_that_answers_wrongly_costs_no_call(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    numbers = itertools.count()
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda _, context: wrong(context, next(numbers)))
    other = grpc.server(ThreadPoolExecutor(2))
    other.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("BookService", {"GetBookInfo": handler, "GetBookList": handler}),)
    )
    address = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
    other.start()
    servers = [BookServer(run_dir, *SHORT_LEASE, etcd=etcd.address) for _ in range(2)]
    try:
        async with servers[0], servers[1]:
            await etcd_client.put("/services/book/" + address, address)
            client = BookClient(run_dir, "--calls", "0", "--interval", "20ms", etcd=etcd.address)
            async with client:
                await client.wait_event("instance ejected")
                ejected = time.time()
                await client.wait_event("call", count=len(client.calls) + 100)
                await client.stop()
    finally:
        other.stop(None)
    answers = sum(pick["instance"] == address for pick in client.events("picked") if logged_at(pick) < ejected)
    figure(f"ejected after {answers} answers; {client.summary['failures']} of {client.summary['calls']} calls failed")
    assert client.summary["failures"] == 0
    assert "Traceback" not in client.log.read_text()
