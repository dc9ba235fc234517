"""The server's life in etcd: ready means discoverable, and leaving loses no call."""

import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from localmesh.components import BookServer, EtcdCluster, EtcdServer, ZipkinServer
from localmesh.http import request_json
from localmesh.lines import logged_at
from localmesh.process import Process
from localmesh.waiting import NotYetError, until
from meshkit.etcd import EtcdClient, KeyValue
from tests.support.unary import Unary

PREFIX = "/services/book/"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def registered(etcd: EtcdClient, key: str, *, within: float, other_than: int = 0) -> KeyValue:
    """The key, as soon as it is there, under another lease than `other_than`."""

    async def probe() -> KeyValue:
        found = [item for item in (await etcd.list(PREFIX)).items if item.key == key and item.lease != other_than]
        if not found:
            raise NotYetError(str((await etcd.list(PREFIX)).items))
        return found[0]

    return await until(probe, within=within, what=f"{key} in etcd", every=0.02)


async def health_of(client: Any, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    answer = await client.call("/grpc.health.v1.Health/Check", request)
    return int(health_pb2.HealthCheckResponse.FromString(answer).status)


async def test_key_value_and_lease_are_those_of_the_contract(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient
) -> None:
    async with BookServer(run_dir, "--drain", "0s", "--lease-ttl", "7", etcd=etcd.address) as server:
        (item,) = (await etcd_client.list(PREFIX)).items
        assert item.key == f"/services/book/{server.address}"
        assert item.value == server.address
        lease = await request_json(f"http://{etcd.address}/v3/lease/timetolive", {"ID": str(item.lease)})
        assert lease["grantedTTL"] == "7"
        async with Unary(server.address) as client:
            assert await health_of(client) == SERVING
            assert await health_of(client, "BookService") == SERVING
    assert (await etcd_client.list(PREFIX)).items == ()


async def test_with_etcd_down_at_start_it_serves_is_not_ready_and_registers_once_etcd_is_up(run_dir: Path) -> None:
    etcd = EtcdServer(run_dir)
    server = BookServer(run_dir, "--drain", "0s", etcd=etcd.address)
    server.spawn()
    try:
        listening = await server.wait_event("listening", within=20)
        async with Unary(server.address) as client:
            await client.call("/BookService/GetBookInfo", b"\x08\x01")
            assert await health_of(client) == NOT_SERVING
            assert not server.events("ready")
            await etcd.start()
            up = time.time()
            ready = await server.wait_event("ready", within=20)
            assert await health_of(client) == SERVING
        assert logged_at(ready) - up < 2
        assert logged_at(listening) < up
    finally:
        await server.stop()
        await etcd.stop()


async def test_it_serves_within_2_seconds_of_its_start_though_etcd_hangs(run_dir: Path) -> None:
    # The 2 s are the program's; what Python takes to start and to import is the machine's.
    begun = time.monotonic()
    program = Process("help", [sys.executable, "-m", "book_server", "--help"], run_dir=run_dir)
    program.spawn()
    assert await program.wait() == 0
    imports = time.monotonic() - begun
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = BookServer(run_dir, etcd=f"127.0.0.1:{silent.getsockname()[1]}")
        started = time.time()
        server.spawn()
        try:
            listening = await server.wait_event("listening", within=20)
            async with Unary(server.address) as client:
                await client.call("/BookService/GetBookInfo", b"\x08\x01")
            assert logged_at(listening) - started < 2 + imports
        finally:
            await server.stop()


async def test_a_lease_revoked_from_outside_costs_2_seconds_at_most(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient
) -> None:
    async with BookServer(run_dir, "--drain", "0s", etcd=etcd.address) as server:
        (item,) = (await etcd_client.list(PREFIX)).items
        await etcd_client.revoke(item.lease)
        await registered(etcd_client, PREFIX + server.address, within=2, other_than=item.lease)


@pytest.mark.parametrize("keeps_data", [True, False], ids=["with its data", "without its data"])
async def test_an_etcd_that_restarts_finds_the_key_again(run_dir: Path, etcd: EtcdServer, keeps_data: bool) -> None:
    async with BookServer(run_dir, "--drain", "0s", etcd=etcd.address) as server:
        await etcd.process.kill()
        if not keeps_data:
            etcd.wipe()
        async with Unary(server.address) as client:
            assert await health_of(client) == SERVING
        await etcd.start()
        async with EtcdClient([etcd.address]) as etcd_client:
            await registered(etcd_client, PREFIX + server.address, within=5)


async def test_an_etcd_frozen_for_longer_than_the_lease_finds_the_key_again(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient
) -> None:
    async with BookServer(run_dir, "--drain", "0s", "--lease-ttl", "2", etcd=etcd.address) as server:
        etcd.process.freeze()
        await server.wait_event("lease not renewed, trying on", within=20)
        etcd.process.thaw()
        await registered(etcd_client, PREFIX + server.address, within=10)
        # Whether the old lease survived is etcd's affair: in the end the key has to stay.
        await asyncio.sleep(3)
        await registered(etcd_client, PREFIX + server.address, within=3)


async def test_a_killed_server_is_gone_after_its_lease(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient
) -> None:
    async with BookServer(run_dir, "--lease-ttl", "1", etcd=etcd.address) as server:
        await server.kill()

        async def probe() -> None:
            if items := (await etcd_client.list(PREFIX)).items:
                raise NotYetError(str(items))

        await until(probe, within=10, what="the key gone")


async def test_sigterm_with_20_calls_in_flight_fails_none_and_flushes_the_spans(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, zipkin: ZipkinServer
) -> None:
    flags = ("--rate", "0", "--max-list-latency", "2s", "--drain", "500ms", "--grace", "10s")
    async with BookServer(run_dir, *flags, etcd=etcd.address, zipkin=zipkin.collector) as server:
        async with Unary(server.address) as client:
            headers = [{"b3": f"{number + 1:032x}-{number + 1:016x}-1"} for number in range(20)]
            calls = [
                asyncio.create_task(client.status("/BookService/GetBookList", metadata=header)) for header in headers
            ]
            await asyncio.sleep(0.1)
            assert not all(call.done() for call in calls)
            stopping = asyncio.create_task(server.stop())
            await server.wait_event("deregistered")
            assert (await etcd_client.list(PREFIX)).items == ()
            # The key is gone, the port still accepts: a client that has not heard yet loses nothing.
            assert await client.status("/BookService/GetBookInfo") is grpc.StatusCode.OK
            assert await asyncio.gather(*calls) == [grpc.StatusCode.OK] * 20
            assert await stopping == 0
        for number in range(20):
            assert len(await zipkin.wait_trace(f"{number + 1:032x}", 1)) == 1
    order = [entry["event"] for entry in server.events()]
    assert order.index("leaving") < order.index("deregistered") < order.index("stopped")


async def test_calls_that_outlast_the_grace_are_cut_off(run_dir: Path, etcd: EtcdServer) -> None:
    flags = ("--rate", "0.01", "--drain", "0s", "--grace", "300ms")
    async with BookServer(run_dir, *flags, etcd=etcd.address) as server, Unary(server.address) as client:
        await client.call("/BookService/GetBookInfo")
        waiting = asyncio.create_task(client.status("/BookService/GetBookInfo", timeout=200))
        await asyncio.sleep(0.2)
        assert await server.stop() == 0
        assert await waiting in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


async def test_a_taken_port_is_one_line_and_exit_code_1_and_no_key(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient
) -> None:
    server = BookServer(run_dir, etcd=etcd.address, port=etcd.port)
    server.spawn()
    assert await server.wait() == 1
    lines = [line for line in server.output().splitlines() if not line.startswith("{")]
    assert lines == [f"book-server: cannot listen on {server.address}: Address already in use"]
    assert (await etcd_client.list(PREFIX)).items == ()


async def test_a_cluster_of_three_goes_on_without_one_member(run_dir: Path) -> None:
    async with EtcdCluster(run_dir) as cluster:
        flags = ("--drain", "0s", "--lease-ttl", "3")
        async with BookServer(run_dir, *flags, etcd=cluster.addresses) as server:
            await cluster.members[0].process.kill()
            await asyncio.sleep(6)
            async with EtcdClient([member.address for member in cluster.members[1:]]) as etcd_client:
                await registered(etcd_client, PREFIX + server.address, within=10)
