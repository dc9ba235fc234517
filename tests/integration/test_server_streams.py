"""Handlers of all four kinds behind meshkit's interceptors: spans, deadlines, statuses, limits, leaving."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from helloworld_pb2 import HelloRequest
from helloworld_pb2_grpc import GreeterStub
from opentelemetry.trace import SpanKind
from route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from route_guide_pb2_grpc import RouteGuideStub, add_RouteGuideServicer_to_server

from localmesh.ports import free_port
from meshkit import (
    CallError,
    MeshChannel,
    MeshError,
    MiddlewareInterceptor,
    TokenBucket,
    TracingServerInterceptor,
    serve,
)
from meshkit.deadline import remaining
from meshkit.middleware import ErroringLimiter
from meshkit.server import leaving
from tests.support.example_services import Instances, RouteGuide, Spans, greeters

Code = grpc.StatusCode
SERVICE = "routeguide.RouteGuide"
EVERYWHERE = Rectangle()


class Stage:
    def __init__(self, channel: Any, server_spans: Spans, client_spans: Spans, address: str) -> None:
        self.channel = channel
        self.stub: Any = RouteGuideStub(channel)  # type: ignore[no-untyped-call]
        self.server_spans = server_spans
        self.client_spans = client_spans
        self.address = address

    async def server_span(self) -> Any:
        """The last one of the server, once all have ended."""
        async with asyncio.timeout(20):
            while self.server_spans.open or not self.server_spans.ended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return self.server_spans.ended[-1]


@asynccontextmanager
async def served(guide: Any, middleware: Any = None, grace: float = 10) -> AsyncIterator[Stage]:
    spans, address = Spans("server"), f"127.0.0.1:{free_port()}"
    client_spans = Spans("client")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            serve(
                lambda server: add_RouteGuideServicer_to_server(guide, server),  # type: ignore[no-untyped-call]
                [SERVICE],
                listen=address,
                interceptors=[
                    TracingServerInterceptor(spans.tracer, [SERVICE]),
                    MiddlewareInterceptor(middleware, [SERVICE]),
                ],
                grace=grace,
            )
        )
        channel = await stack.enter_async_context(MeshChannel(Instances(address), client_spans.tracer))
        yield Stage(channel, spans, client_spans, address)


def notes(*texts: str) -> Iterator[RouteNote]:
    return (RouteNote(message=text) for text in texts)


async def listed(stage: Stage, **options: Any) -> list[Any]:
    return [feature async for feature in stage.stub.ListFeatures(EVERYWHERE, **options)]


async def test_each_kind_of_call_has_a_server_span_in_the_caller_s_trace() -> None:
    async with served(RouteGuide(5)) as stage:
        await stage.stub.GetFeature(Point())
        assert len(await listed(stage)) == 5
        assert (await stage.stub.RecordRoute(iter([Point()] * 7))).point_count == 7
        assert [note.message async for note in stage.stub.RouteChat(notes(*"abc"))] == list("abc")
        await stage.server_span()
    clients, servers = stage.client_spans.of(SpanKind.CLIENT), stage.server_spans.of(SpanKind.SERVER)
    assert [span.parent.span_id for span in servers] == [span.context.span_id for span in clients]
    assert [span.context.trace_id for span in servers] == [span.context.trace_id for span in clients]
    counts = [(span.attributes["messages.received"], span.attributes["messages.sent"]) for span in servers[1:]]
    assert counts == [(1, 5), (7, 1), (3, 3)]
    assert {span.attributes["rpc.grpc.status_code"] for span in servers} == {0}


class Nested(RouteGuide):
    """Greets in each of its streams, by another service."""

    def __init__(self, channel: Any) -> None:
        super().__init__()
        self.greeter: Any = GreeterStub(channel)  # type: ignore[no-untyped-call]
        self.remaining: list[float | None] = []

    async def greet(self) -> None:
        self.remaining.append(remaining())
        await self.greeter.SayHello(HelloRequest(name="nested"))

    async def ListFeatures(self, request: Rectangle, context: Any) -> AsyncIterator[Feature]:  # noqa: N802
        await self.greet()
        yield Feature()

    async def RecordRoute(self, request_iterator: Any, context: Any) -> RouteSummary:  # noqa: N802
        await self.greet()
        return RouteSummary()

    async def RouteChat(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        while (note := await context.read()) is not grpc.aio.EOF:
            await self.greet()
            await context.write(note)


async def test_calls_within_a_stream_continue_its_trace_and_its_deadline() -> None:
    spans = Spans("guide")
    async with greeters(1) as others, MeshChannel(Instances(*others), spans.tracer) as channel:
        guide = Nested(channel)
        async with served(guide) as stage:
            await listed(stage, timeout=30)
            await stage.stub.RecordRoute(iter([Point()]), timeout=30)
            assert [note.message async for note in stage.stub.RouteChat(notes("a"), timeout=30)] == ["a"]
            await listed(stage)
            await stage.server_span()
        (greeter,) = others.values()
    parents = [span.context.span_id for span in stage.server_spans.ended]
    assert [span.parent.span_id for span in spans.of(SpanKind.CLIENT)] == parents
    assert [None if left is None else round(left, -1) for left in guide.remaining] == [30, 30, 30, None]
    assert [None if left is None else round(left, -1) for left in greeter.left] == [30, 30, 30, None]


class Failing(RouteGuide):
    """Fails each of its streams with the same error."""

    def __init__(self, error: Exception, answer: Any = None) -> None:
        super().__init__()
        self.error = error
        self.answer = answer

    async def ListFeatures(self, request: Rectangle, context: Any) -> AsyncIterator[Feature]:  # noqa: N802
        yield Feature() if self.answer is None else self.answer
        raise self.error

    async def RecordRoute(self, request_iterator: Any, context: Any) -> RouteSummary:  # noqa: N802
        if self.answer is not None:
            return self.answer  # type: ignore[no-any-return]
        raise self.error

    async def RouteChat(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        async for note in request_iterator:
            yield note
        raise self.error


ERRORS = [
    (ValueError("a secret"), Code.UNKNOWN, "ValueError in the handler"),
    (MeshError("not today"), Code.INTERNAL, "not today"),
    (TimeoutError("too slow"), Code.DEADLINE_EXCEEDED, "too slow"),
]


@pytest.mark.parametrize(("error", "code", "details"), ERRORS, ids=lambda value: type(value).__name__)
async def test_what_a_stream_s_handler_raises_has_its_status(error: Exception, code: Code, details: str) -> None:
    calls: list[Callable[[Stage], Any]] = [
        listed,
        lambda stage: stage.stub.RecordRoute(iter([])),
        lambda stage: all_of(stage.stub.RouteChat(notes("a"))),
    ]
    async with served(Failing(error)) as stage:
        for call in calls:
            with pytest.raises(CallError) as caught:
                await call(stage)
            assert (caught.value.code(), caught.value.details()) == (code, details)
            assert (await stage.server_span()).attributes["rpc.grpc.status_code"] == code.value[0]


async def all_of(call: Any) -> list[Any]:
    return [message async for message in call]


async def test_messages_that_cannot_be_read_or_made_are_internal_errors() -> None:
    async with (
        served(Failing(ValueError(), answer="no message")) as stage,
        grpc.aio.insecure_channel(stage.address) as raw,
    ):
        for kind, name, request in (
            ("unary_stream", "ListFeatures", b"\xff"),
            ("stream_unary", "RecordRoute", b""),
            ("stream_stream", "RouteChat", b"\xff"),
        ):
            call = getattr(raw, kind)(f"/{SERVICE}/{name}")(request if kind == "unary_stream" else iter([request]))
            with pytest.raises(grpc.aio.AioRpcError, match=r"malformed request|cannot be encoded") as caught:
                await (call if kind == "stream_unary" else all_of(call))
            assert caught.value.code() is Code.INTERNAL
        with pytest.raises(CallError, match="cannot be encoded"):
            await listed(stage)


async def test_a_limiter_takes_one_token_for_a_stream() -> None:
    async with served(RouteGuide(5), ErroringLimiter(TokenBucket(rate=0.001, burst=3))) as stage:
        assert len(await listed(stage)) == 5
        assert (await stage.stub.RecordRoute(iter([Point()] * 7))).point_count == 7
        assert len(await all_of(stage.stub.RouteChat(notes(*"abc")))) == 3
        with pytest.raises(CallError) as caught:
            await listed(stage)
        assert caught.value.code() is Code.RESOURCE_EXHAUSTED
        assert (await stage.server_span()).attributes["rpc.grpc.status_code"] == 8


async def test_the_span_of_a_stream_that_its_caller_leaves_ends() -> None:
    guide = RouteGuide()
    guide.waits_at = 2
    async with served(guide) as stage:
        call = stage.stub.ListFeatures(EVERYWHERE)
        await call.read()
        call.cancel()
        assert (await stage.server_span()).attributes["rpc.grpc.status_code"] == Code.CANCELLED.value[0]
        with pytest.raises(CallError):
            await listed(stage, timeout=0.3)
        # Whichever is sooner at the server: the time that it was told of, or the caller's going.
        ended_by = {Code.DEADLINE_EXCEEDED.value[0], Code.CANCELLED.value[0]}
        assert (await stage.server_span()).attributes["rpc.grpc.status_code"] in ended_by
        assert (guide.begun, guide.ended) == (2, 2)


class News(RouteGuide):
    """Streams without an end, but for the server's."""

    async def ListFeatures(self, request: Rectangle, context: Any) -> AsyncIterator[Feature]:  # noqa: N802
        yield Feature(name="news")
        await leaving().wait()
        yield Feature(name="that is all")


async def test_a_server_that_leaves_tells_its_streams_to_end() -> None:
    async with AsyncExitStack() as stack:
        async with served(News(), grace=30) as stage:
            channel = await stack.enter_async_context(MeshChannel(Instances(stage.address)))
            call = Stage(channel, Spans(), Spans(), "").stub.ListFeatures(EVERYWHERE)
            assert (await call.read()).name == "news"
        assert [feature.name for feature in await all_of(call)] == ["that is all"]
    assert not leaving().is_set()


async def test_handlers_that_are_not_async_are_left_to_grpc() -> None:
    class Sync(RouteGuide):
        def GetFeature(self, request: Point, context: Any) -> Feature:  # type: ignore[override]  # noqa: N802
            return Feature(name="sync")

        def ListFeatures(self, request: Rectangle, context: Any) -> Iterator[Feature]:  # type: ignore[override]  # noqa: N802
            yield Feature(name="sync")

    async with served(Sync()) as stage:
        assert (await stage.stub.GetFeature(Point())).name == "sync"
        assert [feature.name for feature in await listed(stage)] == ["sync"]
        assert not stage.server_spans.ended
