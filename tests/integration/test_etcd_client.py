"""The client of etcd on a real etcd."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from localmesh.components import EtcdServer
from localmesh.waiting import until
from meshkit import EtcdClient
from meshkit.errors import EtcdError


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
        assert client.away_since is None
        await client.put("/here", "1")
        assert client.away_since is None
        before = time.time()
        await etcd.stop()
        with pytest.raises(EtcdError):
            await client.list("/")
        assert client.away_since is not None
        assert before <= client.away_since <= time.time()
        await etcd.start()
        await until(lambda: client.list("/"), within=20, what="an answer of etcd")
        assert client.away_since is None
