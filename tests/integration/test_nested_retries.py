"""Retries of tiers that call one another, on real gRPC: what of one call arrives at the innermost that fails."""

import json
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from helloworld_pb2 import HelloReply, HelloRequest
from helloworld_pb2_grpc import GreeterServicer, GreeterStub, add_GreeterServicer_to_server

from localmesh.ports import free_port
from meshkit import MeshChannel, MiddlewareInterceptor, serve
from meshkit.testing import FixedInstances, MemorySpans

NAME = "helloworld.Greeter"


class Tier(GreeterServicer):
    """Passes calls on to the next tier; the last one fails."""

    def __init__(self, onward: grpc.aio.Channel | None = None, fails: int = 10**6) -> None:
        self.onward, self.fails = onward, fails
        self.before: list[str | None] = []

    async def SayHello(self, request: HelloRequest, context: Any) -> Any:  # noqa: N802
        self.before.append(dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts"))
        if len(self.before) <= self.fails and self.onward is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "sick")
        return HelloReply() if self.onward is None else await hello(self.onward)


def hello(channel: grpc.aio.Channel) -> Any:
    stub: Any = GreeterStub(channel)  # type: ignore[no-untyped-call]
    return stub.SayHello(HelloRequest(name="world"), timeout=20)


async def served(stack: AsyncExitStack, tier: Tier) -> str:
    def add(server: grpc.aio.Server) -> None:
        add_GreeterServicer_to_server(tier, server)  # type: ignore[no-untyped-call]

    interceptors = [MiddlewareInterceptor(None, [NAME])]
    port = await stack.enter_async_context(serve(add, [NAME], listen="127.0.0.1:0", interceptors=interceptors, drain=0))
    return f"127.0.0.1:{port}"


async def chain(stack: AsyncExitStack, innermost: Tier, tiers: int) -> list[str]:
    """The addresses of so many servers above the innermost, from that on."""
    addresses = [await served(stack, innermost)]
    for _ in range(tiers):
        spans = MemorySpans()
        instances = FixedInstances(addresses[-1])
        channel = await stack.enter_async_context(MeshChannel(instances, spans.tracer, idempotent=True))
        addresses.append(await served(stack, Tier(channel)))
    return addresses


@pytest.mark.parametrize(("tiers", "calls"), [(1, 3), (2, 5), (3, 7)])
async def test_retries_of_nested_tiers_add_up_and_do_not_multiply(tiers: int, calls: int) -> None:
    innermost = Tier()
    async with AsyncExitStack() as stack:
        addresses = await chain(stack, innermost, tiers - 1)
        outer = await stack.enter_async_context(MeshChannel(FixedInstances(addresses[-1]), idempotent=True))
        with pytest.raises(grpc.RpcError) as caught:
            await hello(outer)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    print(f"{tiers} tiers of 3 attempts: {len(innermost.before)} calls of the innermost for one, instead of {3**tiers}")
    assert len(innermost.before) == calls
    assert innermost.before[:3] == [None, "1", "2"]


async def test_a_stock_client_s_own_retries_are_heeded() -> None:
    innermost = Tier()
    policy = {"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.1s", "backoffMultiplier": 2}
    policy |= {"retryableStatusCodes": ["UNAVAILABLE"]}
    config = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
    async with AsyncExitStack() as stack:
        addresses = await chain(stack, innermost, 1)
        stock = grpc.aio.insecure_channel(addresses[-1], options=[("grpc.service_config", config)])
        async with stock:
            with pytest.raises(grpc.RpcError):
                await hello(stock)
    assert len(innermost.before) == 5


async def test_a_call_that_is_made_again_above_still_goes_on_where_nobody_has_seen_it() -> None:
    well = Tier(fails=0)
    async with AsyncExitStack() as stack:
        # Most of its instances are not there: what was refused on this side is no load, and is made again.
        instances = FixedInstances(await served(stack, well), *(f"127.0.0.1:{free_port()}" for _ in range(2)))
        onward = await stack.enter_async_context(MeshChannel(instances))
        middle = await served(stack, Tier(onward))
        # With its own retries on, gRPC keeps that header to itself.
        plain = grpc.aio.insecure_channel(middle, options=[("grpc.enable_retries", 0)])
        stub: Any = GreeterStub(await stack.enter_async_context(plain))  # type: ignore[no-untyped-call]
        for _ in range(6):
            await stub.SayHello(HelloRequest(), timeout=20, metadata=(("grpc-previous-rpc-attempts", "1"),))
    assert len(well.before) == 6
    assert set(well.before) <= {"1", "2"}
