"""A caller's deadline goes along with the calls that are made for it, and holds in the server whatever it is."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from opentelemetry import trace

from meshkit import MiddlewareInterceptor, TracingServerInterceptor, serve
from meshkit.client import TracingClientInterceptor, instance_channel
from meshkit.deadline import inherit, remaining, within
from meshkit.server import HandlerInterceptor
from tests.support import http2

SERVICE = "p.S"
TRACER = trace.get_tracer("test")
UNARY, UNARY_STREAM, STREAM_UNARY, STREAM_STREAM = (
    grpc.unary_unary_rpc_method_handler,
    grpc.unary_stream_rpc_method_handler,
    grpc.stream_unary_rpc_method_handler,
    grpc.stream_stream_rpc_method_handler,
)
INTERCEPTORS: dict[str, list[HandlerInterceptor]] = {
    "tracing": [TracingServerInterceptor(TRACER, [SERVICE])],
    "middleware": [MiddlewareInterceptor(None, [SERVICE])],
    "both": [TracingServerInterceptor(TRACER, [SERVICE]), MiddlewareInterceptor(None, [SERVICE])],
}
CHANNELS: dict[str, Callable[[str], grpc.aio.Channel]] = {
    "traced channel": lambda address: instance_channel(address, TRACER),
    "untraced channel": instance_channel,
    "interceptor": lambda address: grpc.aio.insecure_channel(
        address, interceptors=[TracingClientInterceptor(TRACER, address)]
    ),
}


@asynccontextmanager
async def serving(interceptors: list[HandlerInterceptor], **handlers: Any) -> AsyncIterator[str]:
    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async with serve(add, [SERVICE], listen="127.0.0.1:0", interceptors=interceptors, drain=0, grace=0) as port:
        yield f"127.0.0.1:{port}"


class Below:
    """The service below, which notes how long its callers would wait; its four methods are named after their kinds."""

    def __init__(self) -> None:
        self.left: list[float | None] = []
        self.handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "UU": UNARY(self._one),
            "US": UNARY_STREAM(self._many),
            "SU": STREAM_UNARY(self._one),
            "SS": STREAM_STREAM(self._many),
        }

    async def _one(self, _: Any, context: Any) -> bytes:
        self.left.append(context.time_remaining())
        return b""

    async def _many(self, _: Any, context: Any) -> AsyncIterator[bytes]:
        self.left.append(context.time_remaining())
        yield b""


@pytest.mark.parametrize("way", CHANNELS)
@pytest.mark.parametrize("first", INTERCEPTORS)
async def test_a_call_within_a_call_carries_the_deadline_of_the_caller(first: str, way: str) -> None:
    below = Below()
    async with serving([], **below.handlers) as address, CHANNELS[way](address) as channel:

        async def middle(request: bytes, _: Any) -> bytes:
            down: Any = channel.unary_unary(f"/{SERVICE}/UU")
            for timeout in (None, 60, 5):
                await down(request, timeout=timeout)
            inherit(None)
            await down(request)
            return b""

        async with (
            serving(INTERCEPTORS[first], Middle=UNARY(middle)) as own,
            grpc.aio.insecure_channel(own) as caller,
        ):
            call: Any = caller.unary_unary(f"/{SERVICE}/Middle")
            await call(b"", timeout=20)
    of_the_callers, shortened, of_its_own, none = below.left
    assert of_the_callers is not None
    assert shortened is not None
    assert of_its_own is not None
    assert 6 < shortened <= 20
    assert of_the_callers <= 20
    # gRPC rounds up what it tells.
    assert of_its_own <= 5.05
    assert none is None


@pytest.mark.parametrize("traced", [True, False])
async def test_all_kinds_of_calls_carry_the_deadline_in_force(traced: bool) -> None:
    below = Below()
    async with (
        serving([], **below.handlers) as address,
        instance_channel(address, TRACER if traced else None) as channel,
        within(20),
    ):
        calls: Any = channel
        await calls.unary_unary(f"/{SERVICE}/UU")(b"")
        assert [answer async for answer in calls.unary_stream(f"/{SERVICE}/US")(b"")] == [b""]
        await calls.stream_unary(f"/{SERVICE}/SU")(iter([b""]))
        assert [answer async for answer in calls.stream_stream(f"/{SERVICE}/SS")(iter([b""]))] == [b""]
    assert len(below.left) == 4
    assert all(left is not None and left <= 20.2 for left in below.left)


async def test_once_the_deadline_has_passed_no_call_goes_out() -> None:
    below = Below()
    async with serving([], **below.handlers) as address, instance_channel(address) as channel:
        inherit(-1)
        call: Any = channel.unary_unary(f"/{SERVICE}/UU")
        start = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"")
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - start < 5
    assert below.left == []


@pytest.mark.parametrize("first", INTERCEPTORS)
async def test_the_deadline_of_one_call_is_not_that_of_the_next_nor_that_of_whoever_started_the_server(
    first: str,
) -> None:
    seen: list[float | None] = []

    async def handler(request: bytes, _: Any) -> bytes:
        seen.append(remaining())
        return request

    async with (
        within(50),
        serving(INTERCEPTORS[first], Do=UNARY(handler)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        call: Any = channel.unary_unary(f"/{SERVICE}/Do")
        await call(b"")
        await call(b"", timeout=20)
        await call(b"")
    first_left, second_left, third_left = seen
    assert first_left is None
    assert second_left is not None
    assert second_left <= 20
    assert third_left is None


@pytest.mark.parametrize("first", INTERCEPTORS)
async def test_whatever_is_sent_as_a_deadline_the_call_ends_and_those_that_can_be_kept_are_served(first: str) -> None:
    served: list[bytes] = []

    async def handler(request: bytes, _: Any) -> bytes:
        async with within(1e12):
            await asyncio.sleep(0)
        served.append(request)
        return request

    timeouts = ["99999999H", "0H", "0n", "1n", "-1S", "1X", "S", "", "9" * 1000 + "S", "5S"]
    async with (
        serving(INTERCEPTORS[first], Do=UNARY(handler)) as address,
        http2.connection(int(address.rpartition(":")[2])) as (reader, writer),
        asyncio.timeout(30),
    ):
        for number, timeout in enumerate(timeouts):
            stream = 2 * number + 1
            writer.write(http2.call(stream, f"/{SERVICE}/Do", timeout.encode(), {"grpc-timeout": timeout}))
            while True:
                kind, flags, of_stream, _ = await http2.next_frame(reader)
                assert kind != http2.GOAWAY
                ended = kind == http2.RST_STREAM or (kind == http2.HEADERS and flags & http2.END_STREAM)
                if of_stream == stream and ended:
                    break
    assert {b"99999999H", b"5S"} <= set(served)
    assert not {b"0H", b"0n"} & set(served)
