"""Connections that are never closed: forgotten on their way, or with a peer that is gone or answers nonsense."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import grpc
import pytest

from localmesh.components import EtcdServer
from localmesh.relay import Relay
from meshkit import EtcdClient, channel_factory
from meshkit.client import Connection
from meshkit.errors import EtcdError
from meshkit.options import server_options
from tests.support.listening import listening

Figure = Callable[[str], None]
# What the mesh promises, and as much again for a busy machine.
FOUND = 5.0
BUSY = 5.0
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


@asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """A server with the mesh's options that answers what it was sent, after as many seconds as that says."""

    async def answer(request: bytes, _: Any) -> bytes:
        await asyncio.sleep(float(request))
        return request

    server = grpc.aio.server(options=server_options())
    methods: dict[str, Any] = {"Sleep": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Echo", methods),))
    async with listening(server) as address:
        yield address


def sleeping(channel: grpc.aio.Channel, _: str) -> Any:
    method: Any = channel.unary_unary("/Echo/Sleep")

    async def sleep(seconds: str) -> Any:
        return await method(seconds.encode(), timeout=30)

    return sleep


async def test_a_call_under_way_on_a_forgotten_connection_fails_within_5_s_and_the_next_one_succeeds(
    figure: Figure,
) -> None:
    async with echo_server() as address, Relay(address) as relay, channel_factory(sleeping)(relay.address) as echo:
        assert await echo("0") == b"0"
        call = asyncio.ensure_future(echo("25"))
        await asyncio.sleep(0.2)
        relay.forget()
        start = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        found = time.monotonic() - start
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert found < FOUND + BUSY
        async with asyncio.timeout(BUSY):
            while True:
                # A call that meets the connection's end fails with it; a Retry makes it again elsewhere.
                with contextlib.suppress(grpc.aio.AioRpcError):
                    assert await echo("0") == b"0"
                    break
        figure(f"forgotten connection found after {found:.1f} s")


async def test_an_idle_channels_forgotten_connection_is_found_without_a_call() -> None:
    async with echo_server() as address, Relay(address) as relay, channel_factory(sleeping)(relay.address) as echo:
        connection = cast(Connection, echo)
        assert await echo("0") == b"0"
        relay.forget()
        async with asyncio.timeout(FOUND + BUSY):
            while connection.connected():  # noqa: ASYNC110 - gRPC's state, which has no event
                await asyncio.sleep(0.05)
        start = time.monotonic()
        assert await echo("0") == b"0"
        assert time.monotonic() - start < FOUND


async def test_a_channel_that_is_made_anew_lets_the_calls_on_the_old_one_end() -> None:
    async with echo_server() as address, Relay(address) as relay, channel_factory(sleeping)(relay.address) as echo:
        connection = cast(Connection, echo)
        assert await echo("0") == b"0"
        call = asyncio.ensure_future(echo("1"))
        await asyncio.sleep(0.2)
        connection.reconnect()
        assert await echo("0") == b"0"
        assert await call == b"1"


async def test_a_client_that_says_hello_and_nothing_more_is_let_go() -> None:
    async with echo_server() as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(HELLO)
        async with asyncio.timeout(15 + BUSY):
            while await reader.read(65536):
                pass
        writer.close()


async def test_a_silent_watch_on_a_forgotten_connection_to_etcd_is_found_within_5_s(
    etcd: EtcdServer, figure: Figure
) -> None:
    async with Relay(etcd.address) as relay, EtcdClient([relay.address]) as client:
        revision = (await client.list("/a/")).revision
        async with aclosing(client.watch("/a/", revision + 1)) as batches:
            change = asyncio.ensure_future(anext(batches))
            await asyncio.sleep(0.5)
            relay.forget()
            start = time.monotonic()
            with pytest.raises(EtcdError):
                await change
        found = time.monotonic() - start
        assert found < FOUND + BUSY
        # The only endpoint there is: whoever is behind it now is asked over another connection.
        async with asyncio.timeout(10 + BUSY):
            while True:
                with contextlib.suppress(EtcdError):
                    await client.put("/a/b", "1")
                    break
        figure(f"watch ended after {found:.1f} s, put again after {time.monotonic() - start:.1f} s")


async def test_a_member_that_answers_what_cannot_be_read_gives_way_to_the_next(etcd: EtcdServer) -> None:
    async def nonsense(_request: bytes, _context: Any) -> bytes:
        return b"\xff\xff\xff"

    other = grpc.aio.server()
    methods: dict[str, Any] = {"Range": grpc.unary_unary_rpc_method_handler(nonsense)}
    other.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("etcdserverpb.KV", methods),))
    async with listening(other) as address:
        async with EtcdClient([address]) as client:
            with pytest.raises(EtcdError, match="cannot be read"):
                await client.list("/a/")
        for _ in range(4):
            async with EtcdClient([address, etcd.address]) as client:
                assert (await client.list("/a/")).items == ()
