"""Hostile connections, frame by frame: well-behaved clients are served as before, health included."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit import MiddlewareInterceptor, serve
from meshkit.background import end_tasks
from tests.support import http2

SERVICE, METHOD = "p.S", "/p.S/Do"
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


async def handler(request: bytes, _: Any) -> bytes:
    await asyncio.sleep(0)
    return request


@asynccontextmanager
async def a_server() -> AsyncIterator[int]:
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"Do": grpc.unary_unary_rpc_method_handler(handler)}

    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    guards = [MiddlewareInterceptor(None, [SERVICE])]
    async with serve(add, [SERVICE], listen="127.0.0.1:0", interceptors=guards, drain=0, grace=0) as port:
        yield port


async def test_streams_that_are_opened_and_reset_at_once_fail_no_call_of_another_connection() -> None:
    async with a_server() as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        call: Any = channel.unary_unary(METHOD)
        health = health_pb2_grpc.HealthStub(channel)
        attacks = [asyncio.create_task(http2.rapid_resets(port, METHOD)) for _ in range(2)]
        end = time.monotonic() + 5
        calls = 0
        while time.monotonic() < end or calls < 20:
            assert await call(b"x", timeout=30) == b"x"
            await health.Check(health_pb2.HealthCheckRequest(), timeout=30)
            calls += 1
        await end_tasks(attacks)


async def test_a_well_behaved_client_with_as_many_calls_as_it_may_have_is_never_refused() -> None:
    async with a_server() as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        call: Any = channel.unary_unary(METHOD)

        async def calls() -> None:
            for _ in range(40):
                await call(b"x", timeout=60)

        # More than may be in flight: the client keeps the others back.
        await asyncio.gather(*(calls() for _ in range(150)))


async def test_no_more_than_100_calls_of_a_connection_are_under_way() -> None:
    async with a_server() as port, http2.connection(port) as (reader, _), asyncio.timeout(30):
        while True:
            kind, flags, _, payload = await http2.next_frame(reader)
            if kind == http2.SETTINGS and not flags & http2.ACK:
                break
    limits = {payload[at : at + 2]: int.from_bytes(payload[at + 2 : at + 6]) for at in range(0, len(payload), 6)}
    assert limits[http2.setting(http2.MAX_CONCURRENT_STREAMS, 0)[:2]] == 100


async def test_a_connection_that_says_hello_and_nothing_more_is_let_go() -> None:
    async with a_server() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0))
        # gRPC's own limit is a minute.
        async with asyncio.timeout(30):
            await reader.read()
        writer.close()
