"""Replicas come and go under a client that never stops calling."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc

from localmesh.components import FAST, BookClient, BookServer, EtcdServer
from localmesh.lines import logged_at
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from meshkit import Endpoint, Endpointer, Retry, RoundRobin, channel_factory, serve
from meshkit.discovery import InstanceChange
from meshkit.etcd import EtcdClient

PREFIX = "/services/book/"


def picks_of(client: BookClient, instance: str) -> list[dict[str, Any]]:
    return [entry for entry in client.events("picked") if entry["instance"] == instance]


async def test_3000_concurrent_calls_over_3_replicas_give_each_1000(run_dir: Path, etcd: EtcdServer) -> None:
    flags = ("--calls", "3000", "--concurrency", "300")
    servers = [BookServer(run_dir, *FAST, etcd=etcd.address) for _ in range(3)]
    async with servers[0], servers[1], servers[2]:
        client = BookClient(run_dir, *flags, etcd=etcd.address)
        client.spawn()
        assert await client.wait() == 0
    counts = Counter(call["instance"] for call in client.calls)
    assert sum(counts.values()) == 3000
    assert all(abs(counts[server.address] - 1000) <= 1 for server in servers), counts
    assert client.summary["by_instance"] == dict(counts)


async def test_a_new_replica_is_called_within_200_ms_of_its_key_and_one_that_left_not_after_200_ms(
    run_dir: Path, etcd: EtcdServer
) -> None:
    flags = ("--calls", "0", "--interval", "5ms")
    async with BookServer(run_dir, *FAST, etcd=etcd.address):
        client = BookClient(run_dir, *flags, etcd=etcd.address)
        async with client:
            await client.wait_event("call", count=10)
            newcomer = BookServer(run_dir, *FAST, "--drain", "1s", etcd=etcd.address)
            async with newcomer:
                await _called(client, newcomer.address)
                await newcomer.stop()
            last_call = len(client.calls)
            await client.wait_event("call", count=last_call + 50)
            assert await client.stop() == 0
    picks = picks_of(client, newcomer.address)
    assert logged_at(picks[0]) - logged_at(newcomer.events("registered")[0]) < 0.2
    assert logged_at(picks[-1]) - logged_at(newcomer.events("deregistered")[0]) < 0.2
    assert client.summary["failures"] == 0


async def test_a_new_replica_that_cannot_be_reached_yet_costs_no_attempt(run_dir: Path, etcd: EtcdServer) -> None:
    flags = ("--calls", "0", "--interval", "5ms")
    newcomer = BookServer(run_dir, *FAST, etcd=etcd.address)
    async with (
        BookServer(run_dir, *FAST, etcd=etcd.address),
        BookClient(run_dir, *flags, etcd=etcd.address) as client,
        EtcdClient([etcd.address]) as keys,
    ):
        await client.wait_event("call", count=10)
        await keys.put(PREFIX + newcomer.address, newcomer.address)
        await client.wait_event("instances changed", count=2)
        await client.wait_event("call", count=len(client.calls) + 100)
        assert picks_of(client, newcomer.address) == []
        async with newcomer:
            await _called(client, newcomer.address)
            assert await client.stop() == 0
    assert [call for call in client.calls if call["attempts"] > 1] == []


async def test_a_replica_that_is_killed_costs_no_call(run_dir: Path, etcd: EtcdServer) -> None:
    # It takes its time, so that the kill meets calls.
    slow = ("--max-list-latency", "300ms", "--max-info-latency", "300ms")
    victim = BookServer(run_dir, *FAST, *slow, "--lease-ttl", "2", etcd=etcd.address)
    async with BookServer(run_dir, *FAST, etcd=etcd.address), victim:
        client = BookClient(run_dir, "--calls", "0", "--interval", "5ms", "--concurrency", "4", etcd=etcd.address)
        async with client:
            await _called(client, victim.address)
            await victim.kill()
            await client.wait_event("instances changed", count=2)
            assert await client.stop() == 0
    assert client.summary["failures"] == 0
    assert any(call["attempts"] > 1 for call in client.calls)


async def test_a_replica_that_hangs_costs_no_call_its_whole_deadline(run_dir: Path, etcd: EtcdServer) -> None:
    hung = BookServer(run_dir, *FAST, "--drain", "2s", etcd=etcd.address)
    async with BookServer(run_dir, *FAST, etcd=etcd.address), hung:
        hung.freeze()
        flags = ("--calls", "10", "--timeout", "1500ms")
        client = BookClient(run_dir, *flags, etcd=etcd.address)
        client.spawn()
        assert await client.wait() == 0
        assert all(call["duration_ms"] < 1400 for call in client.calls)
        await hung.kill()


async def test_a_call_whose_channel_is_closed_after_the_drain_is_made_again_elsewhere() -> None:
    class Instances:
        def subscribe(self, observer: Callable[[InstanceChange], None]) -> Callable[[], None]:
            self.tell = observer
            return lambda: None

    def answering_after(seconds: float) -> Callable[[grpc.aio.Server], None]:
        async def answer(request: bytes, _: object) -> bytes:
            await asyncio.sleep(seconds)
            return request

        handler: Any = grpc.unary_unary_rpc_method_handler(answer)
        return lambda server: server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("Slow", {"Call": handler}),)
        )

    def over(channel: grpc.aio.Channel, _: str) -> Endpoint[bytes, bytes]:
        method: Any = channel.unary_unary("/Slow/Call")
        return method  # type: ignore[no-any-return]

    instances = Instances()
    async with AsyncExitStack() as servers, Endpointer(instances, channel_factory(over), drain=0.2) as endpointer:
        hung, quick = [
            f"127.0.0.1:{await servers.enter_async_context(serve(add, [], listen='127.0.0.1:0', drain=0, grace=0))}"
            for add in (answering_after(60), answering_after(0))
        ]
        instances.tell(InstanceChange(frozenset({hung}), frozenset()))
        await endpointer.wait_endpoints()
        call = asyncio.create_task(Retry(RoundRobin(endpointer), timeout=30)(b"book"))
        await asyncio.sleep(0.2)
        instances.tell(InstanceChange(frozenset({quick}), frozenset({hung})))
        async with asyncio.timeout(10):
            await asyncio.wait([call])
        assert not call.cancelled()
        assert call.result() == b"book"


async def test_instances_stay_in_use_while_etcd_is_away(run_dir: Path, etcd: EtcdServer) -> None:
    async with BookServer(run_dir, *FAST, etcd=etcd.address):
        client = BookClient(run_dir, "--calls", "0", "--interval", "10ms", etcd=etcd.address)
        async with client:
            await client.wait_event("call", count=5)
            await etcd.process.kill()
            await client.wait_event("instances may be stale")
            await client.wait_event("call", count=len(client.calls) + 50)
            await etcd.start()
            await client.wait_event("instances are up to date again")
            assert await client.stop() == 0
    assert client.summary["failures"] == 0


async def test_with_every_replica_dead_the_breaker_opens_and_closes_again_by_a_probe(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient
) -> None:
    port = free_port()
    dead = f"127.0.0.1:{port}"
    await etcd_client.put(PREFIX + dead, dead)
    flags = ("--calls", "0", "--interval", "10ms", "--breaker-sleep", "500ms", "--timeout", "2s")
    client = BookClient(run_dir, *flags, etcd=etcd.address)
    async with client:

        async def refused() -> None:
            if not any("is open" in call.get("error", "") for call in client.calls):
                raise NotYetError(str(client.calls[-1:]))

        await until(refused, within=20, what="a call refused by the breaker")
        async with BookServer(run_dir, *FAST, etcd=etcd.address, port=port):

            async def succeeded() -> None:
                if not any(call["outcome"] == "ok" for call in client.calls):
                    raise NotYetError(str(client.calls[-1:]))

            await until(succeeded, within=20, what="a call that succeeds again")
            assert await client.stop() == 1


async def _called(client: BookClient, instance: str) -> None:
    async def probe() -> None:
        if not any(call["instance"] == instance for call in client.calls):
            raise NotYetError(str(client.calls[-1:]))

    await until(probe, within=20, what=f"a call to {instance}")
