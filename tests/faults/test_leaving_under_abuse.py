"""A book-server whose callers mean no good: it serves the others, and it leaves within its grace."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from book_pb2 import BookInfoParams, BookListParams
from book_pb2_grpc import BookServiceStub

from localmesh.components import FAST, BookServer, EtcdServer
from meshkit.background import end_tasks
from tests.support import http2

Figure = Callable[[str], None]
LIST = "/BookService/GetBookList"
GRACE = 3
# Beyond the grace: revoking the lease, sending spans, ending the process; and as much again for a busy machine.
MARGIN = 10.0
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))


@asynccontextmanager
async def calls_never_read(port: int, connections: int) -> AsyncIterator[None]:
    """Calls on connections whose windows are 0 (RFC 9113 §6.9.2): no answer can be sent to them."""
    async with AsyncExitStack() as stack:
        for _ in range(connections):
            no_window = http2.setting(http2.INITIAL_WINDOW_SIZE, 0)
            _, writer = await stack.enter_async_context(http2.connection(port, no_window))
            for number in range(90):
                writer.write(http2.call(2 * number + 1, LIST, BookListParams(page=1).SerializeToString()))
            await writer.drain()
        yield


async def good_call(port: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        await BookServiceStub(channel).GetBookInfo(BookInfoParams(book_id=1), timeout=30)


@pytest.mark.parametrize("abuse", ["answers never read", "resets", "calls that wait for a token", "all of them"])
async def test_sigterm_under_abuse_ends_the_server_within_its_grace(
    abuse: str, run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    rate = ("--rate", "1") if abuse in {"calls that wait for a token", "all of them"} else ("--rate", "0")
    server = BookServer(run_dir, *FAST, *rate, "--grace", f"{GRACE}s", etcd=etcd.address)
    async with server, AsyncExitStack() as stack:
        attacks = []
        if abuse in {"answers never read", "calls that wait for a token", "all of them"}:
            await stack.enter_async_context(calls_never_read(server.port, connections=5))
        if abuse in {"resets", "all of them"}:
            attacks = [asyncio.create_task(http2.rapid_resets(server.port, LIST, pause=0.01)) for _ in range(2)]
        stack.push_async_callback(end_tasks, attacks)
        if rate[1] == "0":
            await good_call(server.port)
        await asyncio.sleep(0.5)
        start = time.monotonic()
        status = await server.stop(grace=GRACE + MARGIN)
        took = time.monotonic() - start
    figure(f"{abuse}: ended after {took:.1f} s with a grace of {GRACE} s")
    assert status == 0, server.last_words()
    assert took < GRACE + MARGIN
    assert server.events("stopped")


async def test_250_silent_connections_and_150_descriptors_keep_good_calls_out_for_seconds_only(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    server = BookServer(run_dir, *FAST, "--grace", f"{GRACE}s", etcd=etcd.address)
    server.command = ["sh", "-c", 'ulimit -n 150 && exec "$@"', "sh", *server.command]
    async with server, AsyncExitStack() as stack:
        for _ in range(250):
            # Hello, settings, and never a word again.
            await stack.enter_async_context(http2.connection(server.port))
        start = time.monotonic()
        async with asyncio.timeout(40):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await good_call(server.port)
                    break
        took = time.monotonic() - start
        figure(f"a good call after {took:.1f} s")
        assert await server.stop(grace=GRACE + MARGIN) == 0, server.last_words()
    assert took < 30
