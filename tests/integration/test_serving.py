"""A server in this process: what watchers of its health see, and what is said of ports that cannot be had."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from book_pb2_grpc import BookServiceServicer, add_BookServiceServicer_to_server
from grpc_health.v1 import health_pb2, health_pb2_grpc

from localmesh.ports import free_port
from meshkit import MiddlewareInterceptor, Registrar, serve

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
REQUEST = health_pb2.HealthCheckRequest(service="BookService")


class Registered:
    """A registrar that is registered, and deregistered, when the test says so."""

    def __init__(self) -> None:
        self.entered, self.left = asyncio.Event(), asyncio.Event()
        self.displaced = asyncio.Event()
        self.key = "/services/book/127.0.0.1:1"

    def start(self) -> None:
        pass

    async def wait_registered(self) -> None:
        await self.entered.wait()

    async def wait_displaced(self) -> None:
        await self.displaced.wait()

    async def deregister(self) -> bool:
        await self.left.wait()
        return False


def add_books(server: grpc.aio.Server) -> None:
    add_BookServiceServicer_to_server(BookServiceServicer(), server)


def a_server(registered: Registered | None = None, **options: Any) -> Any:
    defaults: dict[str, Any] = {"listen": "127.0.0.1:0", "drain": 0.0, "grace": 0.1}
    return serve(add_books, ["BookService"], registrar=cast(Registrar | None, registered), **(defaults | options))


@asynccontextmanager
async def health_at(port: int) -> AsyncIterator[health_pb2_grpc.HealthStub]:
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield health_pb2_grpc.HealthStub(channel)


@asynccontextmanager
async def watcher_that_does_not_read(port: int) -> AsyncIterator[None]:
    """Begins a watch with an HTTP/2 window of 0 (RFC 9113 §6.9.2): no answer can be sent to it."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload

    def header(name: bytes, value: bytes) -> bytes:
        return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value

    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/grpc.health.v1.Health/Watch",
        b":authority": b"localhost",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    message = REQUEST.SerializeToString()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, struct.pack(">HI", 4, 0))
        + frame(1, 4, 1, b"".join(header(*item) for item in headers.items()))
        + frame(0, 1, 1, b"\0" + struct.pack(">I", len(message)) + message)
    )
    try:
        # The answer's headers, which no window holds back: the watch is under way, and its first status stuck.
        while frame(1, 4, 1, b"")[3:] not in await reader.read(1000):
            pass
        yield
    finally:
        writer.close()
        await writer.wait_closed()


async def test_a_watcher_that_does_not_read_keeps_no_status_from_anybody() -> None:
    registered = Registered()
    async with AsyncExitStack() as server:
        port = await server.enter_async_context(a_server(registered))
        async with watcher_that_does_not_read(port), health_at(port) as health:
            heard = [(await health.Check(REQUEST)).status]
            registered.entered.set()
            await asyncio.sleep(0.05)
            heard.append((await health.Check(REQUEST)).status)
            leaving = asyncio.create_task(server.aclose())
            await asyncio.sleep(0.05)
            heard.append((await health.Check(REQUEST)).status)
            registered.left.set()
            await leaving
    assert heard == [NOT_SERVING, SERVING, NOT_SERVING]


async def test_watchers_hear_that_the_server_leaves_though_one_has_gone_and_do_not_hold_it_up() -> None:
    now = asyncio.get_running_loop().time
    async with AsyncExitStack() as server:
        port = await server.enter_async_context(a_server(grace=30.0))
        async with health_at(port) as one, health_at(port) as other:
            goes, stays = one.Watch(REQUEST), other.Watch(REQUEST)
            assert ((await goes.read()).status, (await stays.read()).status) == (SERVING, SERVING)
            goes.cancel()
            await asyncio.sleep(0.1)
            left = now()
            await server.aclose()
            assert now() - left < 5
            assert (await stays.read()).status == NOT_SERVING
            assert await stays.read() is grpc.aio.EOF
            assert await stays.code() is grpc.StatusCode.OK


async def test_a_port_that_is_taken_meanwhile_is_an_oserror_and_the_health_port_is_closed_again() -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    with pytest.raises(OSError, match=f"^cannot listen on {address}: Address already in use$"):
        async with a_server(listen=address, health_listen=address):
            pass
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_what_only_grpc_cannot_bind_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object, address: str) -> int:
        raise RuntimeError(f"Failed to bind to address {address}")

    monkeypatch.setattr(type(grpc.aio.server()), "add_insecure_port", refuse)
    with pytest.raises(OSError, match=r"^cannot listen on 127\.0\.0\.1:0: Failed to bind"):
        async with a_server():
            pass


async def test_a_name_that_does_not_resolve_is_said_to_be_that() -> None:
    with pytest.raises(socket.gaierror) as unresolved:
        socket.getaddrinfo("nowhere.invalid", 1)
    with pytest.raises(OSError, match="cannot listen on") as caught:
        async with a_server(listen="nowhere.invalid:1"):
            pass
    assert str(caught.value) == f"cannot listen on nowhere.invalid:1: {unresolved.value.strerror}"


async def test_the_event_loop_goes_on_while_a_name_to_listen_on_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    look_up, heard = socket.getaddrinfo, asyncio.Event()

    def slowly(host: str, *args: Any, **options: Any) -> Any:
        # Looked up in the loop itself it would wait in vain.
        asyncio.run_coroutine_threadsafe(heard.wait(), loop).result(10)
        return look_up("127.0.0.1" if host == "books.test" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    loop.call_later(0.2, heard.set)
    async with a_server(listen="books.test:0") as port, health_at(port) as health:
        assert (await health.Check(REQUEST)).status == SERVING


async def test_all_addresses_of_a_name_that_are_here_are_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo

    def several(host: str, *args: Any, **options: Any) -> Any:
        hosts = ["192.0.2.1", "127.0.0.1", "127.0.0.2"] if host == "books.test" else [host]
        return [found for each in hosts for found in look_up(each, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    async with a_server(listen="books.test:0") as port:
        for host in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((host, port), timeout=10):
                pass


@pytest.mark.parametrize("misspelt", ["services", "interceptor"])
async def test_a_service_name_that_is_misspelt_is_an_error_at_start(misspelt: str) -> None:
    services = ["BookServce" if misspelt == "services" else "BookService"]
    guard = MiddlewareInterceptor(None, ["BookServce" if misspelt == "interceptor" else "BookService"])
    with pytest.raises(ValueError, match=r"expected full names .* \(.*BookService.*\), got \['BookServce'\]"):
        async with serve(add_books, services, listen="127.0.0.1:0", interceptors=[guard], drain=0, grace=0):
            pass


async def test_handlers_that_do_not_tell_their_service_may_be_any() -> None:
    class Proxy(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> None:
            return None

    def add_proxy(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers([Proxy()])

    async with serve(add_proxy, ["BookService"], listen="127.0.0.1:0", drain=0, grace=0) as port:
        assert port


async def test_a_server_whose_key_is_anothers_is_not_serving_until_it_has_it_again() -> None:
    async def status_is(status: int) -> None:
        async with asyncio.timeout(10):
            while (await health.Check(health_pb2.HealthCheckRequest())).status != status:  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)

    registered = Registered()
    registered.left.set()
    registered.entered.set()
    async with a_server(registered) as port, health_at(port) as health:
        await status_is(health_pb2.HealthCheckResponse.SERVING)
        registered.entered.clear()
        registered.displaced.set()
        await status_is(health_pb2.HealthCheckResponse.NOT_SERVING)
        registered.displaced.clear()
        registered.entered.set()
        await status_is(health_pb2.HealthCheckResponse.SERVING)
