"""What the parts cost, each by itself: microseconds on top of a call that does nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.exporter.zipkin.node_endpoint import NodeEndpoint
from opentelemetry.exporter.zipkin.proto.http.v2 import ProtobufEncoder
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, Tracer

from localmesh.components import EtcdServer
from meshkit import (
    DelayingLimiter,
    EtcdClient,
    HystrixBreaker,
    MiddlewareInterceptor,
    Registrar,
    Retry,
    RoundRobin,
    TokenBucket,
    TracingServerInterceptor,
)
from meshkit.client import InstanceEndpoint, TracedChannel
from meshkit.metrics import MethodCalls
from meshkit.tracing import SpanEncoder, b3_sampler, tracer_provider
from meshkit.tracing.propagation import Propagation

__all__ = ["Instances", "micro", "nothing"]

ROUNDS, TIMES = 7, 2000
METHOD = "/BookService/GetBookInfo"
ATTRIBUTES: dict[str, str | int] = {
    "rpc.system": "grpc",
    "rpc.service": "BookService",
    "rpc.method": "GetBookInfo",
    "server.address": "127.0.0.1",
    "server.port": 50051,
    "attempt": 1,
}


class Instances:
    """So many endpoints that answer at once."""

    def __init__(self, count: int) -> None:
        self.endpoints = [InstanceEndpoint(f"10.0.0.1:{port}", nothing) for port in range(1, count + 1)]


async def nothing(request: Any) -> Any:
    return request


async def micro(run_dir: Path) -> list[dict[str, Any]]:
    """All of them; each with the median and the spread of its rounds, in microseconds."""
    picks = {f"pick among {n:,} instances": _plain(RoundRobin(Instances(n)).pick) for n in (10, 100, 1000)}
    provider = tracer_provider("bench")
    provider.add_span_processor(SpanProcessor())
    tracer = provider.get_tracer("benchmarks")
    sdk_tracer = TracerProvider(sampler=b3_sampler(), shutdown_on_exit=False).get_tracer("benchmarks")
    ended = _span(tracer)
    b3, single, w3c = Propagation(), Propagation(["b3"]), Propagation(["tracecontext"])
    headers, parent = b3.headers_of(ended), w3c.headers_of(ended)
    calls, ok = MethodCalls(METHOD), grpc.StatusCode.OK
    node = NodeEndpoint("127.0.0.1", None, 50051)
    node.service_name = "book-server"
    encode, stock = SpanEncoder.for_endpoint(node), ProtobufEncoder()
    plain = {
        **picks,
        "span made and ended": _plain(lambda: _span(tracer)),
        "span made and ended, the SDK's own": _plain(lambda: _span(sdk_tracer)),
        "counting a call": _plain(lambda: calls.end(ok, calls.begin(), ended)),
        "encoding a span": _plain(lambda: encode(ended)),
        "encoding a span, the stock encoder": _plain(lambda: stock.serialize([ended], node)),
        "B3 headers written": _plain(lambda: b3.headers_of(ended)),
        "B3 headers read": _plain(lambda: b3.extracted(headers)),
        "B3 in a single header, written": _plain(lambda: single.headers_of(ended)),
        "traceparent written": _plain(lambda: w3c.headers_of(ended)),
        "traceparent read": _plain(lambda: w3c.extracted(parent)),
    }
    breaker = HystrixBreaker("bench", max_concurrent=1000)
    limiter = DelayingLimiter(TokenBucket(1e9, 1000))
    server, client = _server_side(headers), _client_side(tracer)
    awaited: dict[str, Callable[[Any], Awaitable[Any]]] = {
        "retry": Retry(RoundRobin(Instances(3)), attempts=3, timeout=30),
        "breaker": breaker(nothing),
        "delaying limiter, token at hand": limiter(nothing),
        "server: span around the call": await server(TracingServerInterceptor(tracer, ["BookService"])),
        "server: deadline, errors as statuses": await server(MiddlewareInterceptor(None, ["BookService"])),
        "client: span around the call, headers": client,
    }
    rounds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, measure in plain.items():
            rounds.setdefault(name, []).append(measure())
        bare = await _awaited(nothing)
        for name, call in awaited.items():
            rounds.setdefault(name, []).append(await _awaited(call) - bare)
    rounds["registering in etcd, to the key's being there"] = await _registering(run_dir)
    return [
        {"name": name, "median_us": statistics.median(found), "spread_us": [min(found), max(found)]}
        for name, found in rounds.items()
    ]


def _span(tracer: Tracer) -> Any:
    span = tracer.start_span("BookService/GetBookInfo", kind=SpanKind.CLIENT, attributes=ATTRIBUTES)
    span.set_attribute("rpc.grpc.status_code", 0)
    span.end()
    return span


def _plain(function: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        for _ in range(TIMES):
            function()
        return (time.perf_counter() - start) / TIMES * 1e6

    return measure


async def _awaited(call: Callable[[Any], Awaitable[Any]]) -> float:
    start = time.perf_counter()
    for _ in range(TIMES):
        await call(1)
    return (time.perf_counter() - start) / TIMES * 1e6


class _Context:
    """What the interceptors ask of a call's context."""

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def invocation_metadata(self) -> Any:
        return self._headers

    def peer(self) -> str:
        return "ipv4:127.0.0.1:50000"

    def time_remaining(self) -> float:
        return 10.0

    def code(self) -> int:
        return 0

    def details(self) -> str:
        return ""


def _server_side(headers: Any) -> Callable[[Any], Awaitable[Callable[[Any], Awaitable[Any]]]]:
    """Turns a server interceptor into a call through it, looked up at each call, as grpc.aio does."""

    async def behavior(_request: Any, _context: Any) -> bytes:
        return b""

    handler: Any = grpc.unary_unary_rpc_method_handler(behavior)

    class Details:
        method = METHOD
        invocation_metadata = headers

    async def found(_: Any) -> Any:
        return handler

    async def through(interceptor: grpc.aio.ServerInterceptor) -> Callable[[Any], Awaitable[Any]]:
        details: Any = Details()
        context = _Context(headers)

        async def call(request: Any) -> Any:
            wrapped: Any = await interceptor.intercept_service(found, details)
            return await wrapped.unary_unary(request, context)

        return call

    return through


class _Answer:
    """A call that is answered already."""

    def __await__(self) -> Any:
        return nothing(b"").__await__()

    def add_done_callback(self, _: Any) -> None:
        pass


def _client_side(tracer: Tracer) -> Callable[[Any], Awaitable[Any]]:
    class Channel:
        def unary_unary(self, *_: Any) -> Callable[..., Any]:
            return lambda _, **__: _Answer()

    channel: Any = Channel()
    stub = TracedChannel(channel, tracer, "127.0.0.1:50051").unary_unary(METHOD)

    async def call(request: Any) -> Any:
        return await stub(request)

    return call


async def _registering(run_dir: Path) -> list[float]:
    found = []
    async with EtcdServer(run_dir / "registering") as etcd, EtcdClient([etcd.address]) as client:
        for number in range(20):
            address = f"127.0.0.1:{number + 1}"
            registrar = Registrar(client, "/services/bench/", address)
            start = time.perf_counter()
            async with registrar:
                await registrar.wait_registered()
                found.append((time.perf_counter() - start) * 1e6)
    return found
