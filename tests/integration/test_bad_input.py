"""Whatever is sent: a proper status, a server that goes on, and a good call right after."""

import asyncio
import random
from pathlib import Path

import grpc
import pytest
from book_pb2 import BookInfo, BookList, BookListParams
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from localmesh.components import FAST, BookServer, EtcdServer
from localmesh.waiting import NotYetError, until
from tests.support.unary import Unary

INFO = "/BookService/GetBookInfo"
LIST = "/BookService/GetBookList"
CODES = grpc.StatusCode

HOSTILE = {
    "oversized": (INFO, b"\x12" + b"\x80\x80\x08" + bytes(1 << 17), {CODES.RESOURCE_EXHAUSTED}),
    "truncated": (INFO, b"\x08", {CODES.INTERNAL}),
    "cut varint": (INFO, b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", {CODES.INTERNAL}),
    "length beyond the end": (INFO, b"\x12\xff\x7f", {CODES.INTERNAL}),
    "10,000 nested groups": (INFO, b"\x1b" * 10_000 + b"\x1c" * 10_000, {CODES.INTERNAL, CODES.OK}),
    "10,000 open groups": (INFO, b"\x1b" * 10_000, {CODES.INTERNAL}),
    "wrong wire type": (INFO, b"\x0a\x01a", {CODES.INTERNAL, CODES.OK}),
    "unknown method": ("/BookService/Burn", b"", {CODES.UNIMPLEMENTED}),
    "unknown service": ("/Library/GetBookInfo", b"", {CODES.UNIMPLEMENTED}),
    "negative id": (INFO, bytes.fromhex("08ffffffffffffffffff01"), {CODES.INVALID_ARGUMENT}),
    "negative page": (LIST, bytes.fromhex("08ffffffffffffffffff01"), {CODES.INVALID_ARGUMENT}),
    "negative limit": (LIST, bytes.fromhex("10ffffffffffffffffff01"), {CODES.INVALID_ARGUMENT}),
}


async def assert_serves(server: BookServer) -> None:
    async with Unary(server.address) as client:
        answer = BookInfo.FromString(await client.call(INFO, b"\x08\x07"))
        assert (answer.book_id, answer.book_name) == (7, "Go入门系列")
    assert server.running


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_message_gets_a_status(run_dir: Path, etcd: EtcdServer, name: str) -> None:
    method, message, expected = HOSTILE[name]
    async with BookServer(run_dir, *FAST, etcd=etcd.address) as server:
        async with Unary(server.address) as client:
            assert await client.status(method, message) in expected
            assert BookInfo.FromString(await client.call(INFO, b"\x08\x07")).book_id == 7
        await assert_serves(server)


async def test_hostile_metadata_gets_a_status(run_dir: Path, etcd: EtcdServer) -> None:
    async with BookServer(run_dir, *FAST, etcd=etcd.address) as server, Unary(server.address) as client:
        assert await client.status(INFO, metadata={"x-large": "a" * 100_000}) is not CODES.OK
        assert await client.status(INFO, metadata={"b3": "x" * 4000}) is CODES.OK
        await assert_serves(server)


async def test_100_garbage_connections_leave_the_server_as_it_was(run_dir: Path, etcd: EtcdServer) -> None:
    rng = random.Random(7)

    async def garbage(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        start = rng.choice([b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
        writer.write(start + rng.randbytes(2000))
        try:
            await writer.drain()
            async with asyncio.timeout(0.5):
                await reader.read(100)
        except (ConnectionError, TimeoutError):
            pass
        writer.close()

    async with BookServer(run_dir, *FAST, etcd=etcd.address) as server:
        await assert_serves(server)
        before = _descriptors(server)
        await asyncio.gather(*(garbage(server.port) for _ in range(100)))
        await assert_serves(server)

        async def closed() -> None:
            if (now := _descriptors(server)) > before + 5:
                raise NotYetError(f"{now} descriptors, {before} before")

        await until(closed, within=20, what="the connections closed")


async def test_a_call_that_cannot_get_its_token_in_time_is_refused_at_once(run_dir: Path, etcd: EtcdServer) -> None:
    flags = ("--rate", "0.1", "--drain", "0s", "--grace", "0s")
    async with BookServer(run_dir, *flags, etcd=etcd.address) as server, Unary(server.address) as client:
        assert await client.status(INFO) is CODES.OK
        start = asyncio.get_running_loop().time()
        assert await client.status(INFO, timeout=5) is CODES.RESOURCE_EXHAUSTED
        assert asyncio.get_running_loop().time() - start < 4


async def test_reflection_lists_the_service(run_dir: Path, etcd: EtcdServer) -> None:
    async with (
        BookServer(run_dir, *FAST, etcd=etcd.address) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    assert "BookService" in {service.name for service in answers[0].list_services_response.service}


async def test_paging(run_dir: Path, etcd: EtcdServer) -> None:
    async with BookServer(run_dir, *FAST, etcd=etcd.address) as server, Unary(server.address) as client:

        async def names(**page: int) -> list[tuple[int, str]]:
            answer = await client.call(LIST, BookListParams(**page).SerializeToString())
            return [(book.book_id, book.book_name) for book in BookList.FromString(answer).book_list]

        books = [(1, "Go入门到精通"), (2, "微服务入门到精通"), (2, "区块链入门到精通")]
        assert await names() == books
        assert await names(page=1, limit=10) == books
        assert await names(page=1, limit=2) == books[:2]
        assert await names(page=2, limit=2) == books[2:]
        assert await names(page=3, limit=2) == []
        assert await names(page=2147483647, limit=2147483647) == []


def _descriptors(server: BookServer) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
