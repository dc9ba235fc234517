"""Clients know the right instances, whatever happens to etcd, and lose no call over it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Self

import pytest

from localmesh.components import BookClient, BookServer, EtcdCluster, EtcdServer
from localmesh.http import request_json
from localmesh.lines import logged_at
from localmesh.measure import cpu_seconds
from localmesh.waiting import NotYetError, until
from meshkit import Instancer
from meshkit.errors import EtcdError
from meshkit.etcd import EtcdClient, Listing, WatchBatch
from tests.faults.sampling import (
    PREFIX,
    SERVER,
    TTL,
    failures,
    items,
    list_calls,
    wait_calls,
)

Figure = Callable[[str], None]


class BetweenListAndWatch(EtcdClient):
    """A real client; between a list and the watch that follows, something happens."""

    def __init__(self, endpoint: str, happen: Callable[[], Awaitable[None]]) -> None:
        super().__init__([endpoint])
        self.happen = happen
        self.listed: list[float] = []

    async def list(self, prefix: str) -> Listing:
        listing = await super().list(prefix)
        self.listed.append(time.monotonic())
        return listing

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch]:
        await self.happen()
        async with aclosing(super().watch(prefix, start_revision)) as batches:
            async for batch in batches:
                yield batch


class Relay:
    """A TCP relay before etcd, which can be cut, and refuse what comes then."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.address = ""
        self.refusing = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, there_writer}
        await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer), return_exceptions=True)
        self._writers -= {writer, there_writer}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


async def knows(instancer: Instancer, addresses: set[str], *, within: float) -> float:
    """Seconds until the instancer knows exactly these."""
    start = time.monotonic()

    async def probe() -> None:
        if instancer.instances != addresses or instancer.stale:
            raise NotYetError(f"{sorted(instancer.instances)[:5]}, stale: {instancer.stale}")

    await until(probe, within=within, what="the instances known", every=0.005)
    return time.monotonic() - start


async def compact(etcd: EtcdServer, client: EtcdClient) -> None:
    revision = (await client.list(PREFIX)).revision
    with contextlib.suppress(Exception):  # the revision may be compacted already
        await request_json(f"http://{etcd.address}/v3/kv/compaction", {"revision": revision, "physical": True})


async def test_of_1000_puts_between_list_and_watch_none_is_missed(
    etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    trial, waits = 0, list[float]()

    async def put() -> None:
        address = f"127.0.0.1:{trial + 1}"
        await etcd_client.put(f"{PREFIX}{trial}/{address}", address)

    async with BetweenListAndWatch(etcd.address, put) as client:
        for trial in range(1000):
            async with Instancer(client, f"{PREFIX}{trial}/") as instancer:
                waits.append(await knows(instancer, {f"127.0.0.1:{trial + 1}"}, within=5))
    assert len(client.listed) == 1000, "each was heard of by its watch, not by listing again"
    figure(f"1000 of 1000 heard of, the slowest {max(waits) * 1000:.0f} ms after the start")


async def test_a_compaction_while_away_costs_2_s_at_most(
    etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    away = True

    async def compacted() -> None:
        nonlocal away
        if away:
            away = False
            await etcd_client.put(PREFIX + "127.0.0.1:2", "127.0.0.1:2")
            lease = await etcd_client.grant(60)
            await etcd_client.put(PREFIX + "127.0.0.1:1", "127.0.0.1:1", lease.id)
            await etcd_client.revoke(lease.id)
            await compact(etcd, etcd_client)

    await etcd_client.put(PREFIX + "127.0.0.1:1", "127.0.0.1:1")
    async with BetweenListAndWatch(etcd.address, compacted) as client, Instancer(client, PREFIX) as instancer:
        await instancer.wait_instances()
        took = await knows(instancer, {"127.0.0.1:2"}, within=2)
        assert len(client.listed) == 2
        figure(f"right after {took * 1000:.0f} ms, listed twice")


@pytest.mark.parametrize("how", ["cancelled", "ended", "refused"])
async def test_a_watch_lost_10_times_in_a_row_is_there_again(
    etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure, how: str
) -> None:
    losses = 0
    async with Relay(etcd.port) as relay:

        async def lose() -> None:
            nonlocal losses
            if losses == 10:
                return
            losses += 1
            if how == "cancelled":
                await etcd_client.put(PREFIX + "127.0.0.1:1", "127.0.0.1:1")
                await etcd_client.put(PREFIX + "127.0.0.1:1", "127.0.0.1:1")
                await compact(etcd, etcd_client)
            elif how == "refused":
                relay.refusing = True
                relay.cut()
                asyncio.get_running_loop().call_later(0.3, setattr, relay, "refusing", False)
            else:
                asyncio.get_running_loop().call_later(0.05, relay.cut)

        async with BetweenListAndWatch(relay.address, lose) as client, Instancer(client, PREFIX) as instancer:

            async def all_lost() -> None:
                if losses < 10:
                    raise NotYetError(str(losses))

            await until(all_lost, within=40, what="10 watches lost")
            # The tenth loss needs its listing too.
            await asyncio.sleep(2)
            await etcd_client.put(PREFIX + "127.0.0.1:3", "127.0.0.1:3")
            expected = {item.value for item in (await items(etcd_client)).values()}
            await knows(instancer, expected, within=5)
        pauses = [later - earlier for earlier, later in zip(client.listed, client.listed[1:], strict=False)]
        assert len(client.listed) >= 11
        assert max(pauses) <= 5
        figure(f"{how}: listed {len(client.listed)} times, longest pause {max(pauses):.2f} s")


async def test_programs_use_less_than_1_percent_of_a_core_while_etcd_is_down(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    async with (
        BookServer(run_dir, *SERVER, etcd=etcd.address) as server,
        BookClient(run_dir, "--calls", "0", "--interval", "10m", etcd=etcd.address) as client,
    ):
        await wait_calls(client, 1)
        await etcd.process.kill()
        await client.wait_event("instances may be stale")
        await asyncio.sleep(5)
        before = [cpu_seconds(program.pid) for program in (server, client)]
        start = time.monotonic()
        await asyncio.sleep(20)
        took = time.monotonic() - start
        shares = [
            100 * (cpu_seconds(program.pid) - earlier) / took
            for program, earlier in zip((server, client), before, strict=True)
        ]
        figure(f"book-server {shares[0]:.2f}%, book-client {shares[1]:.2f}% of a core")
        assert max(shares) < 1


async def test_60_s_without_etcd_fail_no_call_unless_the_instances_are_to_be_invalidated(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    flags = ("--calls", "0", "--interval", "20ms")
    async with (
        BookServer(run_dir, *SERVER, etcd=etcd.address),
        BookClient(run_dir, *flags, etcd=etcd.address) as client,
        BookClient(
            run_dir, *flags, "--invalidate-after", "5s", etcd=etcd.address, name="book-client-invalidating"
        ) as invalidating,
    ):
        await wait_calls(client, 10)
        await wait_calls(invalidating, 10)
        await etcd.process.kill()
        stale = await client.wait_event("instances may be stale")
        heard = await invalidating.wait_event("instances may be stale")
        emptied = await invalidating.wait_event("instances invalidated")
        after = logged_at(emptied) - logged_at(heard)
        assert 4.5 <= after <= 5.5
        assert "UNAVAILABLE" in emptied["reason"]
        refused = await invalidating.wait_event("call", count=len(invalidating.calls) + 5)
        assert refused["outcome"] == "UNAVAILABLE"
        before = len(client.calls)
        await asyncio.sleep(60 - (time.time() - logged_at(stale)))
        during = len(client.calls) - before
        assert during > 200
        assert failures(client) == []
        figure(f"{during} calls after the first 5 s, 0 failed; with 5s to invalidate: emptied after {after:.2f} s")


async def test_500_keys_in_a_second_cost_at_most_20_list_calls(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    async with EtcdClient([etcd.address]) as own, Instancer(own, PREFIX) as instancer:
        await knows(instancer, set(), within=5)
        before = await list_calls(etcd)
        start = time.monotonic()
        addresses = [f"127.0.0.1:{port}" for port in range(1, 501)]
        for first in range(0, 500, 50):
            await asyncio.gather(*(etcd_client.put(PREFIX + a, a) for a in addresses[first : first + 50]))
            await asyncio.sleep(max(0.0, start + (first + 50) / 500 - time.monotonic()))
        took = time.monotonic() - start
        await knows(instancer, set(addresses), within=2)
        calls = await list_calls(etcd) - before
        figure(f"500 keys in {took:.2f} s: {calls} list calls")
        assert calls <= 20


async def _leader(cluster: EtcdCluster) -> EtcdServer:
    async def probe() -> EtcdServer:
        for member in cluster.members:
            if member.process.running:
                status = await request_json(f"http://{member.address}/v3/maintenance/status", {})
                if status.get("leader") == status["header"]["member_id"]:
                    return member
        raise NotYetError("no leader")

    return await until(probe, within=20, what="a leader")


@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_a_member_of_three_that_is_killed_costs_no_call_and_no_registration(
    run_dir: Path, figure: Figure, who: str
) -> None:
    async with EtcdCluster(run_dir) as cluster, contextlib.AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(BookServer(run_dir, *SERVER, etcd=cluster.addresses)) for _ in range(3)
        ]
        flags = ("--calls", "0", "--interval", "10ms")
        client = await stack.enter_async_context(BookClient(run_dir, *flags, etcd=cluster.addresses))
        await wait_calls(client, 30)
        leader = await _leader(cluster)
        victim = leader if who == "leader" else next(m for m in cluster.members if m is not leader)
        survivors = [member.address for member in cluster.members if member is not victim]
        expected = {server.address for server in servers}
        asked = unanswered = 0
        async with EtcdClient(survivors) as etcd_client:
            await victim.process.kill()
            start = time.monotonic()
            while time.monotonic() - start < 3 * TTL:
                asked += 1
                try:
                    found = {item.value for item in (await items(etcd_client)).values()}
                    assert found == expected
                except EtcdError:
                    unanswered += 1
                await asyncio.sleep(0.05)
        assert unanswered < asked / 2
        assert failures(client) == []
        assert all(len(server.events("registered")) == 1 for server in servers)
        figure(f"{who}: 0 of {len(client.calls)} calls failed, 3 keys in each of {asked - unanswered} samples in 15 s")
