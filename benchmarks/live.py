"""What the parts cost within real calls: CPU of client and server together, in microseconds a call.

In a loop of its own a part finds its code and its data in the processor's caches; within a call, which runs through
all of gRPC before it comes by again, it does not, and costs three to four times as much. Here client and servers share
a process, and blocks of calls take turns: the ways to make a call differ by one part each.

    python -m benchmarks.live        prints JSON
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
from book_pb2 import BookInfoParams
from book_pb2_grpc import BookServiceStub, add_BookServiceServicer_to_server
from book_server.books import BookService
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Tracer

from benchmarks.bare import bare_call
from benchmarks.load import Call
from benchmarks.ours import book_info_over, guarded, retrying, traced
from meshkit import Endpointer, MiddlewareInterceptor, RoundRobin, TracingServerInterceptor, channel_factory, run_async
from meshkit.discovery import InstanceChange, Observer
from meshkit.metrics import ClientMetrics, ServerMetrics
from meshkit.tracing import tracer_provider, zipkin_exporter

__all__ = ["live"]

WARM_UP, BLOCKS, IN_FLIGHT, CALLS = 3, 100, 16, 20
SERVICE = "BookService"
BARE = "bare call, all of it"


class OneInstance:
    """Reports one instance that stays."""

    def __init__(self, address: str) -> None:
        self._address = address

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        observer(InstanceChange(frozenset({self._address}), frozenset()))
        return lambda: None


async def live() -> list[dict[str, Any]]:
    """Each way's median, what it costs more than the one that it is compared with, and that figure's 95% interval."""
    async with AsyncExitStack() as stack:
        ways = await _ways(stack)
        found: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(-WARM_UP, BLOCKS):
            for name in random.sample(list(ways), len(ways)):
                cost = await _block(ways[name][1])
                if number >= 0:
                    found[name].append(cost)
    rows = []
    for name, (base, _) in ways.items():
        more = sorted(cost - other for cost, other in zip(found[name], found[base], strict=True))
        # By the sign test. Of 100 differences: the 40th to the 61st.
        outside = round(BLOCKS / 2 - math.sqrt(BLOCKS))
        rows.append(
            {
                "name": name,
                "total_us": statistics.median(found[name]),
                "more_us": statistics.median(more),
                "more_interval_us": [more[outside], more[-1 - outside]],
            }
        )
    return rows


async def _ways(stack: AsyncExitStack) -> dict[str, tuple[str, Call]]:
    """The ways to make a call, each with the name of the one that it adds its part to."""
    guards = MiddlewareInterceptor(None, [SERVICE])
    plain = await _serve(stack)
    with_guards = await _serve(stack, guards)
    in_context = await _serve(stack, TracingServerInterceptor(_tracer(recording=False), [SERVICE]), guards)
    in_span = await _serve(stack, TracingServerInterceptor(_tracer(recording=True), [SERVICE]), guards)
    tracing = TracingServerInterceptor(_tracer(recording=True), [SERVICE], ServerMetrics())
    counted = await _serve(stack, tracing, guards)
    stub = await _stub(stack, plain)
    picks = await _balancer(stack, plain, None)
    retry = retrying(picks)
    tracer = _tracer(recording=True)
    all_parts = traced(guarded(retrying(await _balancer(stack, plain, tracer))), tracer)
    metrics = ClientMetrics("live")
    counting = metrics.calls_of("book")(guarded(retrying(await _balancer(stack, plain, tracer, metrics))))

    async def deadline(number: int) -> object:
        return await stub.GetBookInfo(BookInfoParams(book_id=number), timeout=10)

    async def picked(number: int) -> object:
        return await picks.pick()(number)

    return {
        BARE: (BARE, bare_call(stub)),
        "a deadline": (BARE, deadline),
        "pick, the instance's breaker": (BARE, picked),
        "retry with its timer, a deadline": ("pick, the instance's breaker", retry),
        "breaker": ("retry with its timer, a deadline", guarded(retry)),
        "root and CLIENT span, B3 headers": ("breaker", all_parts),
        "metrics of a call and its attempt": ("root and CLIENT span, B3 headers", traced(counting, tracer)),
        "server: deadline, errors as statuses": (BARE, bare_call(await _stub(stack, with_guards))),
        "server: trace context": ("server: deadline, errors as statuses", bare_call(await _stub(stack, in_context))),
        "server: span": ("server: trace context", bare_call(await _stub(stack, in_span))),
        "server: metrics": ("server: span", bare_call(await _stub(stack, counted))),
    }


def _tracer(*, recording: bool) -> Tracer:
    """Its spans are encoded, queued and taken off in batches, but go nowhere."""
    exporter: Any = zipkin_exporter("live", "http://127.0.0.1:9/", address="127.0.0.1:50051")
    exporter.send = lambda _: SpanExportResult.SUCCESS
    return tracer_provider("live", exporter=exporter if recording else None).get_tracer("live")


async def _serve(stack: AsyncExitStack, *interceptors: grpc.aio.ServerInterceptor) -> str:
    server = grpc.aio.server(interceptors=interceptors)
    add_BookServiceServicer_to_server(BookService(0, 0), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, 0)
    return f"127.0.0.1:{port}"


async def _stub(stack: AsyncExitStack, address: str) -> BookServiceStub:
    return BookServiceStub(await stack.enter_async_context(grpc.aio.insecure_channel(address)))


async def _balancer(
    stack: AsyncExitStack, address: str, tracer: Tracer | None, metrics: ClientMetrics | None = None
) -> RoundRobin[int, object]:
    factory = channel_factory(book_info_over, tracer, metrics=metrics)
    endpointer = await stack.enter_async_context(Endpointer(OneInstance(address), factory))
    await endpointer.wait_endpoints()
    return RoundRobin(endpointer)


async def _block(call: Call) -> float:
    """CPU of a call of this block, in microseconds."""

    async def one_after_the_other() -> None:
        for number in range(1, CALLS + 1):
            await call(number)

    start = time.process_time()
    await asyncio.gather(*(one_after_the_other() for _ in range(IN_FLIGHT)))
    return (time.process_time() - start) / (IN_FLIGHT * CALLS) * 1e6


if __name__ == "__main__":
    print(json.dumps(run_async(live())))
