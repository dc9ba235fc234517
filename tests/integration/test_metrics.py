"""The counters are the calls that were made: by client, by spans and by server, per status, exactly."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import grpc
import pytest
from book_client.__main__ import Settings, call_books, command
from book_client.faults import asked, setting
from faults_pb2 import Fault
from helloworld_pb2 import HelloRequest
from helloworld_pb2_grpc import GreeterStub, add_GreeterServicer_to_server
from opentelemetry.trace import SpanKind
from prometheus_client import CollectorRegistry
from route_guide_pb2 import Point, Rectangle, RouteNote
from route_guide_pb2_grpc import RouteGuideStub, add_RouteGuideServicer_to_server
from structlog.testing import capture_logs

from localmesh.components import FAST, BookServer, EtcdServer
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from meshkit import CallError, Mesh, MeshChannel, TracingServerInterceptor, serve
from meshkit.errors import status_of
from meshkit.metrics import ClientMetrics, MethodCalls, ServerMetrics, Sources, registry_of
from meshkit.program.admin_flags import AdminFlags
from meshkit.program.cli import EtcdAccess
from meshkit.program.trace_flags import Tracing
from meshkit.testing import FixedInstances, MemoryEtcd, MemorySpans
from tests.support.example_services import Greeter, RouteGuide

Code = grpc.StatusCode
GREET = "helloworld.Greeter/SayHello"
# What the greeter does with a name, and how often it is called by it.
NAMES = {"world": 20, "nobody": 7, "unwell": 5, "wait": 3}


def by_code(calls: MethodCalls) -> Counter[str]:
    return Counter({code.name: histogram.count for code, histogram in calls.by_code.items()})


def by_status(spans: list[Any]) -> Counter[str]:
    names = {code.value[0]: code.name for code in Code}
    return Counter(names[span.attributes["rpc.grpc.status_code"]] for span in spans)


class Stage:
    """Two servers that count, and a channel that counts."""

    def __init__(self) -> None:
        self.client, self.client_spans = ClientMetrics("test:"), MemorySpans("client")
        self.servers, self.server_spans = [ServerMetrics(), ServerMetrics()], MemorySpans("server")
        self.channel: Any = None

    def handled(self, method: str) -> Counter[str]:
        return sum((by_code(server.calls_of(method)) for server in self.servers), Counter[str]())

    async def rest(self) -> None:
        """Wait until all spans have ended: so have the calls."""
        async with asyncio.timeout(20):
            while self.client_spans.open or self.server_spans.open:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage, addresses = Stage(), list[str]()
    async with AsyncExitStack() as stack:
        for metrics in stage.servers:
            addresses.append(f"127.0.0.1:{free_port()}")
            names = ["helloworld.Greeter", "routeguide.RouteGuide"]
            tracing = TracingServerInterceptor(stage.server_spans.tracer, names, metrics)
            await stack.enter_async_context(
                serve(both, names, listen=addresses[-1], interceptors=[tracing], drain=0, grace=0)
            )
        stage.channel = await stack.enter_async_context(
            MeshChannel(
                FixedInstances(*addresses),
                stage.client_spans.tracer,
                idempotent=[GREET],
                breaker=None,
                metrics=stage.client,
            )
        )
        yield stage


def both(server: grpc.aio.Server) -> None:
    add_GreeterServicer_to_server(Greeter(), server)  # type: ignore[no-untyped-call]
    add_RouteGuideServicer_to_server(RouteGuide(), server)  # type: ignore[no-untyped-call]


async def test_unary_calls_attempts_and_retries_are_those_that_were_made(stage: Stage) -> None:
    stub: Any = GreeterStub(stage.channel)  # type: ignore[no-untyped-call]
    ledger, attempts, retries = Counter[str](), Counter[str](), Counter[int]()
    for name, times in NAMES.items():
        for _ in range(times):
            try:
                await stub.SayHello(HelloRequest(name=name), timeout=0.3 if name == "wait" else 30)
            except CallError as error:
                ledger[error.code().name] += 1
                attempts.update(status_of(attempt.error).name for attempt in error.attempts)
                retries[len(error.attempts) - 1] += 1
            else:
                ledger["OK"] += 1
                attempts["OK"] += 1
    await stage.rest()
    calls = stage.client.calls_of(GREET)
    assert (by_code(calls), calls.started) == (ledger, sum(NAMES.values()))
    assert +calls.retries == +Counter({times: number for times, number in retries.items() if times})
    (made,) = stage.client.attempts()
    assert by_code(made) == attempts == by_status(stage.client_spans.of(SpanKind.CLIENT))
    assert made.started == attempts.total()
    handled = stage.handled(GREET)
    assert handled == by_status(stage.server_spans.of(SpanKind.SERVER))
    # A call that was late may have been so before a server heard of it.
    on_time = attempts.keys() - {"DEADLINE_EXCEEDED"}
    assert {code: handled[code] for code in on_time} == {code: attempts[code] for code in on_time}


async def test_streams_are_counted_when_they_end_by_their_status(stage: Stage) -> None:
    stub: Any = RouteGuideStub(stage.channel)  # type: ignore[no-untyped-call]
    for _ in range(3):
        assert [feature async for feature in stub.ListFeatures(Rectangle())]
        await stub.RecordRoute(iter([Point()] * 3))
        assert [note async for note in stub.RouteChat(iter([RouteNote()] * 2))]
    left = stub.ListFeatures(Rectangle())
    async for _ in left:
        break
    left.cancel()
    await stage.rest()
    for method, expected in (
        ("ListFeatures", {"OK": 3, "CANCELLED": 1}),
        ("RecordRoute", {"OK": 3}),
        ("RouteChat", {"OK": 3}),
    ):
        name = f"routeguide.RouteGuide/{method}"
        made = {attempts.method: attempts for attempts in stage.client.attempts()}[name]
        spans = [span for span in stage.client_spans.of(SpanKind.CLIENT) if span.name == name]
        assert by_code(stage.client.calls_of(name)) == expected
        assert by_code(made) == by_status(spans) == expected
        assert stage.handled(name).total() == sum(expected.values())


async def test_calls_without_a_tracer_are_counted_too_and_unknown_methods_are_other(stage: Stage) -> None:
    metrics = ClientMetrics("test:")
    addresses = {endpoint.instance for endpoint in stage.channel.endpointer.endpoints}
    async with MeshChannel(FixedInstances(*addresses), metrics=metrics) as channel:
        stub: Any = GreeterStub(channel)  # type: ignore[no-untyped-call]
        await stub.SayHello(HelloRequest(name="world"), timeout=30)
        with pytest.raises(CallError) as caught:
            await channel.unary_unary("/helloworld.Greeter/Nothing")(b"", timeout=30)
    assert caught.value.code() is Code.UNIMPLEMENTED
    assert {attempts.method: by_code(attempts) for attempts in metrics.attempts()} == {
        GREET: {"OK": 1},
        "helloworld.Greeter/Nothing": {"UNIMPLEMENTED": 1},
    }
    assert stage.handled("other") == {"UNIMPLEMENTED": 1}


async def test_connections_are_counted_as_instances_come_are_lost_and_go(stage: Stage) -> None:
    connections = stage.client.connections
    await stage.channel.channel_ready()

    async def counted(expected: tuple[int, int, int]) -> None:
        async def probe() -> None:
            seen = (connections.succeeded, connections.lost, connections.open)
            if seen != expected:
                raise NotYetError(seen)

        await until(probe, within=20, what="the connections")

    await counted((2, 0, 2))
    await stage.channel.close()
    await counted((2, 0, 0))


async def test_a_mesh_fills_in_what_there_is_to_tell() -> None:
    sources, etcd = Sources("shop", "1.0"), MemoryEtcd()
    async with Mesh("greeter", address=f"127.0.0.1:{free_port()}", etcd=etcd, sources=sources) as mesh:
        async with mesh.serve(add_greeter, drain=0, grace=0), mesh.channel("greeter") as channel:
            stub: Any = GreeterStub(channel)  # type: ignore[no-untyped-call]
            await stub.SayHello(HelloRequest(name="world"), timeout=30, wait_for_ready=True)
            registry = registry_of(sources)
            target = {"grpc_target": "etcd:///services/greeter/"}
            assert registry.get_sample_value("meshkit_registered") == 1
            assert registry.get_sample_value("meshkit_instances", {"state": "ready", **target}) == 1
            ok = {"grpc_method": GREET, "grpc_status": "OK"}
            assert registry.get_sample_value("grpc_server_call_duration_seconds_count", ok) == 1
            assert registry.get_sample_value("grpc_client_call_duration_seconds_count", {**ok, **target}) == 1
        assert sources.clients == []


def add_greeter(server: grpc.aio.Server) -> None:
    add_GreeterServicer_to_server(Greeter(), server)  # type: ignore[no-untyped-call]


async def test_book_clients_counters_are_what_its_log_says(run_dir: Path, etcd: EtcdServer) -> None:
    sources = Sources("book-client")
    async with sick_and_well(run_dir, etcd):
        with capture_logs() as lines:
            await call_books(settings(etcd, "--calls", "60", "--concurrency", "4"), None, sources=sources)
    calls = [line for line in lines if line["event"] == "call"]
    assert len(calls) == 60
    registry = registry_of(sources)
    total, retries = Counter[str](), Counter[int]()
    for line in calls:
        total["OK" if line["outcome"] == "ok" else line["outcome"]] += 1
        retries[line["attempts"] - 1] += line["attempts"] > 1
    assert samples(registry, "grpc_client_call_duration_seconds_count", "grpc_status") == total
    retried = samples(registry, "grpc_client_call_retries_sum", "grpc_method")
    assert retried == {"conversation": sum(times * number for times, number in retries.items())}
    assert retried["conversation"] > 0
    started = samples(registry, "grpc_client_attempt_started_total", "grpc_method")
    assert started["BookService/GetBookInfo"] == sum(line["attempts"] for line in calls)
    # An attempt asks for the list once it has the book.
    assert started["BookService/GetBookList"] == ended(registry, "BookService/GetBookInfo")["OK"]
    assert ended(registry, "BookService/GetBookList").total() == started["BookService/GetBookList"]


def samples(registry: CollectorRegistry, name: str, label: str) -> Counter[str]:
    found = [sample for family in registry.collect() for sample in family.samples if sample.name == name]
    return sum((Counter({sample.labels[label]: int(sample.value)}) for sample in found), Counter[str]())


def ended(registry: CollectorRegistry, method: str) -> Counter[str]:
    name = "grpc_client_attempt_duration_seconds_count"
    found = [sample for family in registry.collect() for sample in family.samples if sample.name == name]
    return Counter({s.labels["grpc_status"]: int(s.value) for s in found if s.labels["grpc_method"] == method})


@asynccontextmanager
async def sick_and_well(run_dir: Path, etcd: EtcdServer) -> AsyncIterator[None]:
    """Three replicas, of which one fails every third call."""
    async with AsyncExitStack() as stack:
        servers = [BookServer(run_dir, *FAST, "--faults", etcd=etcd.address) for _ in range(3)]
        for server in servers:
            await stack.enter_async_context(server)
        await asked(servers[0].address, setting(Fault(percent=34, status=14)))
        yield


def settings(etcd: EtcdServer, *flags: str) -> Settings:
    given = command.make_context("book-client", list(flags)).params
    own = {field.name for field in fields(Settings)} - {"etcd", "admin"}
    return Settings(
        etcd=EtcdAccess((etcd.address,), None, None),
        tracing=Tracing(),
        admin=AdminFlags(),
        **{name: given[name] for name in given if name in own},
    )
