"""The client of etcd on a real etcd."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from localmesh.components import EtcdServer
from localmesh.waiting import NotYetError, until
from meshkit import EtcdClient
from meshkit.clock import unix_time
from meshkit.errors import EtcdError
from meshkit.etcd.stubs import rpc, stubs
from tests.support.listening import listening


@asynccontextmanager
async def switchboard(*ports: int) -> AsyncIterator[int]:
    """A port whose n-th connection leads to the n-th of `ports`, further ones to the last."""
    accepted = 0
    streams: list[asyncio.StreamWriter] = []

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        port = ports[min(accepted, len(ports) - 1)]
        accepted += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        streams.extend((writer, there_writer))
        await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for stream in streams:
            stream.close()
        await server.wait_closed()


async def test_a_connection_that_ended_up_with_something_else_than_etcds_grpc_is_not_kept(etcd: EtcdServer) -> None:
    other = grpc.aio.server()
    other_port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    async with switchboard(other_port, etcd.port) as port, EtcdClient([f"127.0.0.1:{port}"]) as client:
        with pytest.raises(EtcdError, match="UNIMPLEMENTED"):
            await client.put("/a", "1")
        await client.put("/a", "2")
        assert [item.value for item in (await client.list("/a")).items] == ["2"]
    await other.stop(None)


async def test_a_long_list_comes_in_pages_of_one_revision_and_up_to_a_bound(
    etcd_client: EtcdClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkit.etcd.client.PAGE", 10)
    for number in range(35):
        await etcd_client.put(f"/a/{number:02}", "value")
    revision = await _revision(etcd_client)
    await etcd_client.put("/b/1", "a neighbour")
    listing = await etcd_client.list("/a/")
    assert [item.key for item in listing.items] == [f"/a/{number:02}" for number in range(35)]
    assert listing.revision == revision + 1
    monkeypatch.setattr("meshkit.etcd.client.MAX_LISTING_BYTES", 300)
    with pytest.raises(EtcdError, match=r"etcd lists more than .* below /a/"):
        await etcd_client.list("/a/")


async def _revision(client: EtcdClient) -> int:
    return (await client.list("/none/")).revision


async def test_etcd_is_away_from_the_first_request_without_an_answer_to_the_next_with_one(etcd: EtcdServer) -> None:
    async with EtcdClient([etcd.address], timeout=1) as client:
        assert not client.away_since
        await client.put("/here", "1")
        assert not client.away_since
        before = unix_time()
        await etcd.stop()
        with pytest.raises(EtcdError):
            await client.list("/")
        assert client.away_since is not None
        assert before <= client.away_since <= unix_time()
        await etcd.start()

        async def answers() -> None:
            try:
                await client.list("/")
            except EtcdError as error:
                raise NotYetError(str(error)) from error

        await until(answers, within=20, what="an answer of etcd")
        assert not client.away_since


class WrongMember(stubs.KVServicer, stubs.LeaseServicer, stubs.WatchServicer):  # type: ignore[misc]
    """Speaks etcd's protocol, and answers what etcd never would."""

    grant = rpc.LeaseGrantResponse()
    asked: int = 0

    async def LeaseGrant(self, request: Any, context: Any) -> Any:  # noqa: N802 - etcd\'s name
        self.asked += 1
        return self.grant

    async def LeaseKeepAlive(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - etcd\'s name
        async for request in requests:
            self.asked += 1
            yield rpc.LeaseKeepAliveResponse(ID=request.ID + 1, TTL=10)

    async def Range(self, request: Any, context: Any) -> Any:  # noqa: N802 - etcd\'s name
        self.asked += 1
        item = rpc.RangeResponse(kvs=[{"key": b"", "value": b""}], more=True, count=2**62)
        item.header.revision = 5
        return item

    async def Watch(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - etcd\'s name
        async for _ in requests:
            self.asked += 1
            answer = rpc.WatchResponse(events=[{"kv": {"key": b"/a", "value": b"lost"}}])
            answer.header.revision = 5
            yield answer


class AsksTheFirst(random.Random):
    """Chance that takes the first member first."""

    def randrange(self, *_: Any) -> int:
        return 0


@asynccontextmanager
async def wrong_member_first(wrong: WrongMember, etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    server = grpc.aio.server()
    stubs.add_KVServicer_to_server(wrong, server)
    stubs.add_LeaseServicer_to_server(wrong, server)
    stubs.add_WatchServicer_to_server(wrong, server)
    async with (
        listening(server) as address,
        EtcdClient([address, etcd.address], rng=AsksTheFirst()) as client,
    ):
        yield client
    assert wrong.asked


@pytest.mark.parametrize(
    "grant",
    [
        pytest.param(rpc.LeaseGrantResponse(ID=0, TTL=10), id="no lease"),
        pytest.param(rpc.LeaseGrantResponse(ID=-7, TTL=10), id="negative"),
        pytest.param(rpc.LeaseGrantResponse(ID=8, TTL=10), id="another lease"),
        pytest.param(rpc.LeaseGrantResponse(ID=7, TTL=0), id="for no time"),
    ],
)
async def test_a_member_that_grants_what_was_not_asked_for_gives_way(grant: Any, etcd: EtcdServer) -> None:
    wrong = WrongMember()
    wrong.grant = grant
    async with wrong_member_first(wrong, etcd) as client:
        lease = await client.grant(10, 7)
        assert lease.id == 7
        assert lease.ttl >= 10


async def test_a_member_that_renews_another_lease_gives_way(etcd: EtcdServer) -> None:
    async with EtcdClient([etcd.address]) as good:
        lease = await good.grant(10)
    async with wrong_member_first(WrongMember(), etcd) as client:
        assert await client.keep_alive(lease.id) > 0


async def test_a_member_whose_list_never_ends_gives_way(etcd: EtcdServer) -> None:
    async with EtcdClient([etcd.address]) as good:
        await good.put("/a", "1")
    async with wrong_member_first(WrongMember(), etcd) as client, asyncio.timeout(20):
        assert [item.value for item in (await client.list("/a")).items] == ["1"]


async def test_a_watch_that_begins_with_events_is_none(etcd: EtcdServer) -> None:
    async with wrong_member_first(WrongMember(), etcd) as client:
        with pytest.raises(EtcdError, match="created"):
            await anext(client.watch("/a", 1))
