"""No registration is lost, and none outlives its server, whatever happens to etcd."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path

from localmesh.components import BookClient, BookServer, EtcdServer
from localmesh.lines import logged_at
from meshkit import Instancer, Registrar
from meshkit.etcd import EtcdClient
from tests.faults.sampling import (
    PREFIX,
    SERVER,
    TTL,
    failures,
    items,
    last_missing,
    wait_calls,
    wait_keys,
)

Figure = Callable[[str], None]


async def test_after_3_ttl_without_etcd_the_key_is_there_and_stays(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    async with BookServer(run_dir, *SERVER, etcd=etcd.address) as server:
        await etcd.process.kill()
        await asyncio.sleep(3 * TTL)
        await etcd.start()
        there = await wait_keys(etcd_client, {server.address}, within=2)
        missing = await last_missing(etcd_client, {server.address}, during=2 * TTL)
        figure(f"key seen {there:.2f} s after etcd's return, missing after that: {missing:.2f} s")
        assert missing == 0


async def test_an_etcd_that_lost_its_data_has_the_key_within_3_s_and_no_call_fails(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    async with (
        BookServer(run_dir, *SERVER, etcd=etcd.address) as server,
        BookClient(run_dir, "--calls", "0", "--interval", "10ms", etcd=etcd.address) as client,
    ):
        await wait_calls(client, 20)
        await etcd.process.kill()
        await client.wait_event("instances may be stale")
        etcd.wipe()
        await etcd.start()
        there = await wait_keys(etcd_client, {server.address}, within=3)
        fresh = await client.wait_event("instances are up to date again", within=5)
        # Past the time for which a client keeps instances that are not listed.
        await asyncio.sleep(4)
        await wait_calls(client, 20)
        assert failures(client) == []
        assert client.events("instances changed")[-1]["total"] == 1
        figure(f"key after {there:.2f} s, 0 of {len(client.calls)} calls failed, listed again {fresh['total']}")


async def test_a_key_deleted_under_a_living_lease_is_back_within_its_ttl(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    async with BookServer(run_dir, *SERVER, etcd=etcd.address) as server:
        (key,) = await items(etcd_client)
        lease = await etcd_client.grant(60)
        # Deleting through a lease of our own: it takes the key over, and goes.
        await etcd_client.put(key, server.address, lease.id)
        await etcd_client.revoke(lease.id)
        there = await wait_keys(etcd_client, {server.address}, within=TTL)
        figure(f"restored after {there:.2f} s")


async def test_calls_go_on_while_etcd_is_frozen_and_registrations_are_back_within_3_s(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    async with (
        BookServer(run_dir, *SERVER, etcd=etcd.address) as one,
        BookServer(run_dir, *SERVER, etcd=etcd.address) as two,
        BookClient(run_dir, "--calls", "0", "--interval", "10ms", etcd=etcd.address) as client,
    ):
        await wait_calls(client, 20)
        etcd.process.freeze()
        before = len(client.calls)
        await asyncio.sleep(2 * TTL)
        during = len(client.calls) - before
        etcd.process.thaw()
        missing = await last_missing(etcd_client, {one.address, two.address}, during=3 + 2 * TTL)
        assert missing < 3
        assert during > 100
        assert failures(client) == []
        figure(f"registered {missing:.2f} s after SIGCONT; {during} calls in 10 s of frost, 0 failed")


async def test_a_killed_servers_key_ends_with_its_lease_and_calls_go_to_the_others(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    async with (
        BookServer(run_dir, *SERVER, etcd=etcd.address) as one,
        BookServer(run_dir, *SERVER, etcd=etcd.address) as two,
        BookServer(run_dir, *SERVER, etcd=etcd.address) as victim,
        BookClient(run_dir, "--calls", "0", "--interval", "5ms", etcd=etcd.address) as client,
    ):
        await wait_calls(client, 300)
        await victim.kill()
        killed = time.time()
        gone = await wait_keys(etcd_client, {one.address, two.address}, within=TTL + 2)
        await wait_calls(client, 300)
        total, failed = len(client.calls), len(failures(client))
        retried = sum(call["attempts"] > 1 for call in client.calls)
        after_kill = [
            pick for pick in client.events("picked") if pick["instance"] == victim.address and logged_at(pick) > killed
        ]
        figure(
            f"key gone after {gone:.2f} s; {failed} of {total} calls failed, {retried} were retried elsewhere,"
            f" the dead one was picked {len(after_kill)} times"
        )
        assert failed <= total / 1000
        assert len(after_kill) <= 1


async def test_1000_looks_at_starting_and_stopping_servers_find_no_key_whose_port_refuses(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    rng = random.Random(5)
    stops = 0

    async def come_and_go(server: BookServer) -> None:
        nonlocal stops
        while True:
            server.spawn()
            try:
                await server.wait_event("listening", within=30)
                await asyncio.sleep(rng.choice((0, 0.01, 0.03, 0.1, 1)) * rng.random())
            finally:
                await server.stop()
            stops += 1

    async def refused(address: str) -> bool:
        host, _, port = address.partition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return True
        writer.close()
        return False

    flags = (*SERVER[:-1], "300ms")
    servers = [BookServer(run_dir, *flags, etcd=etcd.address) for _ in range(3)]
    comings = [asyncio.create_task(come_and_go(server)) for server in servers]
    polls = seen = 0
    bad: list[str] = []
    try:
        while polls < 1000 or stops < 12 or seen < 50:
            for item in (await items(etcd_client)).values():
                seen += 1
                if await refused(item.value):
                    bad.append(item.value)
            polls += 1
            await asyncio.sleep(0.01)
            for coming in comings:
                assert not coming.done(), coming
    finally:
        for coming in comings:
            coming.cancel()
        await asyncio.gather(*comings, return_exceptions=True)
    figure(f"{polls} looks over {stops} lives found a key {seen} times, {len(bad)} times with a closed port")
    assert bad == []


async def test_a_successor_that_took_over_the_key_keeps_it_when_the_old_one_leaves(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    old = BookServer(run_dir, *SERVER, etcd=etcd.address)
    async with old, BookServer(run_dir, *SERVER, "--advertise", old.address, etcd=etcd.address):
        (successors,) = (await items(etcd_client)).values()
        await old.wait_event("key belongs to a successor, waiting")
        assert await old.stop() == 0
        missing = await last_missing(etcd_client, {old.address}, during=TTL + 2)
        (kept,) = (await items(etcd_client)).values()
        assert kept.lease == successors.lease
        assert missing == 0
        figure(f"missing {missing:.2f} s in {TTL + 2} s after the old one's end")


async def test_of_two_registrars_and_two_instancers_in_one_program_one_stops_alone(
    etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    one, two = "127.0.0.1:1001", "127.0.0.1:1002"
    async with contextlib.AsyncExitStack() as stack:
        registrars = [
            await stack.enter_async_context(Registrar(etcd_client, PREFIX, value, ttl=TTL)) for value in (one, two)
        ]
        instancers = [await stack.enter_async_context(Instancer(etcd_client, PREFIX)) for _ in range(2)]
        await wait_keys(etcd_client, {one, two}, within=5)
        await registrars[0].deregister()
        missing = await last_missing(etcd_client, {two}, during=TTL + 2)
        assert missing == 0
        assert [instancer.instances for instancer in instancers] == [{two}, {two}]
        await instancers[0].__aexit__(None, None, None)
        await registrars[1].deregister()
        await etcd_client.put(PREFIX + one, one)
        await wait_keys(etcd_client, {one}, within=5)
        await asyncio.sleep(0.2)
        assert instancers[1].instances == {one}
        figure(f"the other key missing for {missing:.2f} s, the other instancer right")
