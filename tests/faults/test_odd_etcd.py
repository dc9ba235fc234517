"""An etcd that is full, that is a learner, or whose name does not resolve: as programs meet it elsewhere."""

import asyncio
import base64
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from localmesh.components import BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.http import request_json
from localmesh.process import Process
from localmesh.waiting import NotYetError, until
from meshkit import EtcdClient
from meshkit.errors import EtcdError
from tests.faults.replicas import SHORT_LEASE
from tests.support.listening import listening

Figure = Callable[[str], None]
STEADY = ("--calls", "0", "--interval", "100ms")
PREFIX = "/services/book/"


async def ask(etcd: EtcdServer, path: str, **body: Any) -> Any:
    """Ask etcd by its JSON gateway, as `etcdctl` does by gRPC; bytes are base64 there."""
    return await request_json(f"http://{etcd.address}/v3/{path}", body, timeout=20)


async def fill(etcd: EtcdServer, client: EtcdClient) -> None:
    """Put values until etcd raises its alarm."""

    async def put_values() -> None:
        for number in range(10_000):
            await client.put(f"/junk/{number}", "x" * 100_000)

    with pytest.raises(EtcdError, match="database space exceeded"):
        await put_values()


async def empty(etcd: EtcdServer) -> None:
    """What etcd's guide has one do: delete, compact, defragment, disarm."""
    start, end = (base64.b64encode(key).decode() for key in (b"/junk/", b"/junk0"))
    deleted = await ask(etcd, "kv/deleterange", key=start, range_end=end)
    await ask(etcd, "kv/compaction", revision=deleted["header"]["revision"], physical=True)
    await ask(etcd, "maintenance/defragment")
    for alarm in (await ask(etcd, "maintenance/alarm", action="GET"))["alarms"]:
        await ask(etcd, "maintenance/alarm", action="DEACTIVATE", **alarm)


async def status_of(server: BookServer) -> int:
    async with grpc.aio.insecure_channel(server.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    return int(answer.status)


async def test_a_full_etcd_registers_nobody_says_so_and_is_read_on_until_its_alarm_is_disarmed(
    run_dir: Path, figure: Figure
) -> None:
    async with (
        EtcdServer(run_dir, "--quota-backend-bytes", str(4 * 1024 * 1024)) as etcd,
        EtcdClient([etcd.address], timeout=20) as etcd_client,
        BookServer(run_dir, *SHORT_LEASE, etcd=etcd.address) as old,
        BookClient(run_dir, *STEADY, etcd=etcd.address) as client,
    ):
        await client.wait_event("call", count=5)
        await fill(etcd, etcd_client)
        new = BookServer(run_dir, *SHORT_LEASE, etcd=etcd.address)
        late = BookClient(run_dir, *STEADY, etcd=etcd.address, name="late-client")
        new.spawn()
        async with late:
            try:
                failed = await new.wait_event("registration failed")
                assert "database space exceeded" in failed["reason"]
                assert await status_of(new) == health_pb2.HealthCheckResponse.NOT_SERVING
                # Past the lease of the one that was registered before: renewals are no writes.
                await asyncio.sleep(8)
                assert not new.events("ready")
                told = len(new.events("registration failed"))
                assert (await etcd_client.list(PREFIX)).items[0].value == old.address
                # Discovery begins as ever.
                await late.wait_event("call", count=5)
                await empty(etcd)
                emptied = time.monotonic()
                await new.wait_event("ready")
                figure(f"ready {time.monotonic() - emptied:.1f} s after the alarm; {told} log lines in 8 s of it")
                assert told <= 3
            finally:
                await new.stop()
            await asyncio.gather(client.stop(), late.stop())
        assert (client.summary["failures"], late.summary["failures"]) == (0, 0)


async def test_a_learner_gives_way_to_a_member_that_answers(run_dir: Path) -> None:
    async with EtcdServer(run_dir) as etcd:
        learner = EtcdServer(run_dir, "--initial-cluster-state", "existing", name="learner")
        peer = learner.cluster.partition("=")[2]
        await ask(etcd, "cluster/member/add", peerURLs=[peer], isLearner=True)
        learner.cluster = f"{etcd.cluster},{learner.cluster}"
        learner.process = learner._process()
        learner.process.spawn()
        try:
            await until(lambda: _refuses_as_learner(learner), within=30, what="a learner that answers")
            members = f"{learner.address},{etcd.address}"
            for number in range(3):
                # Which member is asked first is left to chance.
                async with (
                    BookServer(run_dir, *SHORT_LEASE, etcd=members) as server,
                    BookClient(run_dir, "--calls", "3", etcd=members, name=f"client-{number}") as client,
                ):
                    assert await client.wait() == 0
                    assert set(client.summary["by_instance"]) == {server.address}
        finally:
            await learner.stop()


class AsksTheFirst(random.Random):
    """Chance that takes the first member first."""

    def randrange(self, *_: Any) -> int:
        return 0


@asynccontextmanager
async def stand_in(code: grpc.StatusCode) -> AsyncIterator[str]:
    """What answers every request with one status: a proxy, or another program at a member's address."""

    class Refusing(grpc.GenericRpcHandler):
        def service(self, _: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(refuse)

    async def refuse(_: bytes, context: Any) -> bytes:
        await context.abort(code, "not for you")
        raise AssertionError("unreachable: abort raises")

    server = grpc.aio.server(handlers=(Refusing(),))
    async with listening(server) as address:
        yield address


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_what_is_in_a_members_place_gives_way_whatever_status_it_answers_with(
    code: grpc.StatusCode, etcd: EtcdServer
) -> None:
    key = PREFIX + "127.0.0.1:1"
    async with stand_in(code) as address:

        def client() -> EtcdClient:
            return EtcdClient([address, etcd.address], rng=AsksTheFirst())

        async with client() as etcd_client:
            lease = await etcd_client.grant(60)
        async with client() as etcd_client:
            await etcd_client.put(key, "127.0.0.1:1", lease.id)
        async with client() as etcd_client:
            assert await etcd_client.keep_alive(lease.id) > 0
        async with client() as etcd_client:
            listing = await etcd_client.list(PREFIX)
            assert [item.key for item in listing.items] == [key]
        async with client() as etcd_client:
            with pytest.raises(EtcdError):
                await anext(etcd_client.watch(PREFIX, 1))
            # A watch that failed is begun again by whoever follows, elsewhere.
            assert (await anext(etcd_client.watch(PREFIX, 1))).events


async def test_a_member_of_another_cluster_is_not_believed(run_dir: Path, etcd: EtcdServer) -> None:
    async with EtcdServer(run_dir, name="stranger") as stranger:
        async with EtcdClient([stranger.address]) as at_stranger:
            await at_stranger.put("/a", "theirs")
        async with EtcdClient([etcd.address]) as at_etcd:
            await at_etcd.put("/a", "ours")
        async with EtcdClient([etcd.address, stranger.address], rng=AsksTheFirst()) as client:
            lease = await client.grant(60)
            await etcd.stop()
            for ask in (client.list("/"), client.keep_alive(lease.id), client.put("/a", "mine"), client.grant(60)):
                with pytest.raises(EtcdError):
                    await ask
            with pytest.raises(EtcdError):
                await anext(client.watch("/", 1))
            await etcd.start()
            assert await client.keep_alive(lease.id) > 0
            assert [item.value for item in (await client.list("/a")).items] == ["ours"]


async def test_the_odd_one_of_three_members_is_left_even_where_it_is_asked_first(
    run_dir: Path, etcd: EtcdServer
) -> None:
    async with EtcdServer(run_dir, name="stranger") as stranger:
        async with EtcdClient([etcd.address]) as at_etcd:
            await at_etcd.put("/a", "ours")
        # Two of the three are one etcd under two names.
        members = [stranger.address, etcd.address, f"localhost:{etcd.port}"]
        async with EtcdClient(members, rng=AsksTheFirst()) as client:

            async def is_ours() -> None:
                try:
                    values = [item.value for item in (await client.list("/a")).items]
                except EtcdError as error:
                    raise NotYetError(str(error)) from error
                if values != ["ours"]:
                    raise NotYetError(f"listed {values}")

            await until(is_ours, within=20, what="the keys of the other two")


async def test_another_cluster_at_the_only_address_is_followed(run_dir: Path) -> None:
    async with EtcdServer(run_dir) as before, EtcdClient([before.address]) as client:
        await client.put("/a", "1")
        await before.stop()
        async with EtcdServer(run_dir, port=before.port, name="restored"):

            async def follows() -> None:
                try:
                    items = (await client.list("/a")).items
                except EtcdError as error:
                    raise NotYetError(str(error)) from error
                assert not items

            await until(follows, within=20, what="an answer of the new cluster")


async def _refuses_as_learner(learner: EtcdServer) -> None:
    async with EtcdClient([learner.address]) as client:
        try:
            await client.list("/")
        except EtcdError as error:
            if "learner" in str(error):
                return
            raise NotYetError(str(error)) from error
        raise NotYetError("it answers as a member does")


@pytest.mark.skipif(os.geteuid() != 0, reason="names of one's own need root, for a mount namespace")
async def test_names_that_do_not_resolve_for_10_s_delay_registration_and_spans_and_cost_none(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer, figure: Figure
) -> None:
    hosts, resolver = run_dir / "hosts", run_dir / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n")
    # Nobody answers there: what the file of hosts does not know does not resolve.
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    here = f'mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf && exec "$@"'

    def with_these_names(program: Process) -> None:
        program.command = ["unshare", "--mount", "sh", "-c", here, "sh", *program.command]

    members, collector = f"etcd-of-mine.test:{etcd.port}", f"http://zipkin-of-mine.test:{zipkin.port}/api/v2/spans"
    server = BookServer(run_dir, *SHORT_LEASE, etcd=members, zipkin=collector)
    client = BookClient(run_dir, "--calls", "1", etcd=members, zipkin=collector)
    for program in (server, client):
        with_these_names(program)
        program.spawn()
    try:
        await asyncio.gather(server.wait_event("registration failed"), client.wait_event("instances may be stale"))
        await asyncio.sleep(10)
        assert not server.events("ready")
        told = len(server.events("registration failed"))
        # In place: the file is bound, not its name.
        hosts.write_text("127.0.0.1 localhost etcd-of-mine.test zipkin-of-mine.test\n")
        there = time.monotonic()
        await server.wait_event("ready")
        ready = time.monotonic() - there
        assert await client.wait() == 0
        await zipkin.wait_trace(client.calls[0]["trace_id"], 5)
        figure(f"ready {ready:.1f} s after the name was there; {told} log lines in 10 s without it")
        assert ready < 15
        assert told <= 3
    finally:
        await asyncio.gather(server.stop(), client.stop())
