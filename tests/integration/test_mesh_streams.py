"""Streams of a generated stub over the mesh channel, on real gRPC: nothing is left of them, however they end."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from opentelemetry.trace import SpanKind
from route_guide_pb2 import Point, Rectangle, RouteNote
from route_guide_pb2_grpc import RouteGuideStub

from localmesh.ports import free_port
from meshkit import CallError, MeshChannel
from meshkit.client import instance_channel
from meshkit.client.requests import MOST_KEPT
from tests.support.example_services import Instances, RouteGuide, Spans, guides

Code = grpc.StatusCode
EOF: Any = grpc.aio.EOF
EVERYWHERE = Rectangle()


class Stage:
    """Two guides, a channel to them, and what is to be seen of its streams."""

    def __init__(self, served: dict[str, RouteGuide], channel: MeshChannel, spans: Spans) -> None:
        self.served = served
        self.channel = channel
        self.spans = spans
        self.stub: Any = RouteGuideStub(channel)  # type: ignore[no-untyped-call]
        self._tasks = len(asyncio.all_tasks())

    @property
    def guides(self) -> list[RouteGuide]:
        return list(self.served.values())

    @property
    def endpoints(self) -> list[Any]:
        return self.channel.endpointer.endpoints

    def hinder(self, **where: Any) -> None:
        for guide in self.guides:
            vars(guide).update(where)

    def left(self) -> dict[str, int]:
        return {
            "in flight": sum(endpoint.in_flight for endpoint in self.endpoints),
            "calls": len(self.channel._calls),
            "open spans": self.spans.open,
            "handlers": sum(guide.begun - guide.ended for guide in self.guides),
            "tasks": max(0, len(asyncio.all_tasks()) - self._tasks),
        }

    async def nothing_left(self) -> None:
        await until(lambda: not any(self.left().values()), lambda: (self.left(), asyncio.all_tasks()))


@pytest.fixture(params=[True, False], ids=["traced", "untraced"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    spans = Spans()
    async with (
        guides(2) as served,
        MeshChannel(Instances(*served), spans.tracer if request.param else None, idempotent=True) as channel,
    ):
        await channel.channel_ready()
        stage = Stage(served, channel, spans)
        warm = [feature async for feature in stage.stub.ListFeatures(EVERYWHERE, timeout=20)]
        warm += [feature async for feature in stage.stub.ListFeatures(EVERYWHERE, timeout=20)]
        assert len(warm) == 10
        await asyncio.sleep(0)
        stage._tasks = len(asyncio.all_tasks())
        yield stage


async def read_all(call: Any, into: list[Any] | None = None) -> list[Any]:
    """All messages, by `read`."""
    read: list[Any] = [] if into is None else into
    while (message := await call.read()) is not EOF:
        read.append(message)
    return read


async def until(condition: Callable[[], bool], state: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not yet: {state()}") from None


def notes(*texts: str) -> Iterator[RouteNote]:
    return (RouteNote(message=text) for text in texts)


async def points(number: int) -> AsyncIterator[Point]:
    for latitude in range(number):
        yield Point(latitude=latitude)


async def cancelled(stage: Stage) -> None:
    stage.hinder(waits_at=2)
    for call in stage.stub.ListFeatures(EVERYWHERE), stage.stub.RouteChat(notes("a", "b", "c")):
        await call.read()
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read_all(call)
        assert await call.code() is Code.CANCELLED
    waiting = stage.stub.RecordRoute()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def reader_cancelled(stage: Stage) -> None:
    stage.hinder(waits_at=2)
    call = stage.stub.ListFeatures(EVERYWHERE)

    async def read() -> None:
        async for _ in call:
            pass

    reader = asyncio.create_task(read())
    await call._outgoing.opened.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await call.code() is Code.CANCELLED


async def never_iterated(stage: Stage) -> None:
    stage.stub.ListFeatures(EVERYWHERE)
    stage.stub.RouteChat(notes("a"))
    stage.stub.RouteChat()
    stage.stub.RecordRoute()
    gc.collect()


async def half_read(stage: Stage) -> None:
    call = stage.stub.ListFeatures(EVERYWHERE)
    async for _ in call:
        break
    call = stage.stub.RouteChat(notes("a", "b"))
    await call.read()
    del call
    gc.collect()


async def read_and_write(stage: Stage) -> None:
    call = stage.stub.RouteChat(timeout=20)
    for text in "abc":
        await call.write(RouteNote(message=text))
        assert (await call.read()).message == text
    await call.done_writing()
    assert await call.read() is EOF
    assert await call.read() is EOF
    assert await call.code() is Code.OK
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(RouteNote())
    call = stage.stub.RecordRoute(timeout=20)
    for _ in range(300):
        await call.write(Point())
    await call.done_writing()
    assert (await call).point_count == 300


async def iterated(stage: Stage) -> None:
    assert len([feature async for feature in stage.stub.ListFeatures(EVERYWHERE, timeout=20)]) == 5
    answers = [note.message async for note in stage.stub.RouteChat(notes(*"abc"), timeout=20)]
    assert answers == list("abc")
    assert (await stage.stub.RecordRoute(points(300), timeout=20)).point_count == 300
    assert (await stage.stub.RecordRoute(iter([Point()] * 3))).point_count == 3


async def error_in_the_middle(stage: Stage) -> None:
    stage.hinder(fails_at=2)
    for call in stage.stub.ListFeatures(EVERYWHERE), stage.stub.RouteChat(notes(*"abc")):
        read: list[Any] = []
        with pytest.raises(CallError, match="failed at 2") as caught:
            await read_all(call, read)
        assert len(read) == 2
        assert (await call.code(), caught.value.code()) == (Code.UNAVAILABLE, Code.UNAVAILABLE)
        assert len(caught.value.attempts) == 1


async def server_ends_early(stage: Stage) -> None:
    call = stage.stub.RouteChat()
    await call.write(RouteNote(message="that is all"))
    assert await call.read() is EOF
    with pytest.raises(asyncio.InvalidStateError):
        await call.write(RouteNote(message="more"))
    answers = [note.message async for note in stage.stub.RouteChat(notes("a", "that is all", "b", "c"))]
    assert answers == ["a"]


async def deadline_in_the_middle(stage: Stage) -> None:
    stage.hinder(waits_at=2)
    for call in stage.stub.ListFeatures(EVERYWHERE, timeout=0.3), stage.stub.RouteChat(notes(*"abc"), timeout=0.3):
        with pytest.raises(CallError, match="deadline exceeded in the middle of the stream") as caught:
            async for _ in call:
                pass
        assert caught.value.code() is await call.code() is Code.DEADLINE_EXCEEDED
    with pytest.raises(CallError, match="DEADLINE_EXCEEDED"):
        await stage.stub.RecordRoute(points(3), timeout=0.3)


async def forgotten(stage: Stage) -> None:
    stage.hinder(waits_at=2)
    calls = [stage.stub.ListFeatures(EVERYWHERE), stage.stub.RouteChat(notes(*"abc")), stage.stub.RouteChat()]
    for call in calls[:2]:
        # A callback must not keep it.
        call.add_done_callback(print)
        await call.read()
    await calls[2].write(RouteNote())
    writing = stage.stub.RecordRoute()
    await writing.write(Point())
    del calls, call, writing
    gc.collect()


WAYS: list[Callable[[Stage], Awaitable[None]]] = [
    cancelled,
    reader_cancelled,
    never_iterated,
    half_read,
    read_and_write,
    iterated,
    error_in_the_middle,
    server_ends_early,
    deadline_in_the_middle,
    forgotten,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_nothing_is_left_of_a_stream_however_it_ends(
    stage: Stage, way: Callable[[Stage], Awaitable[None]]
) -> None:
    await way(stage)
    stage.hinder(waits_at=None, fails_at=None)
    await stage.nothing_left()
    assert len([feature async for feature in stage.stub.ListFeatures(EVERYWHERE, timeout=20)]) == 5


async def test_a_stream_is_in_flight_for_its_whole_life_on_one_instance(stage: Stage) -> None:
    stage.hinder(waits_at=2)
    calls = [stage.stub.ListFeatures(EVERYWHERE) for _ in range(4)]
    for call in calls:
        await call.read()
    assert [endpoint.in_flight for endpoint in stage.endpoints] == [2, 2]
    for guide in stage.guides:
        guide.release.set()
    assert [len([feature async for feature in call]) for call in calls] == [4] * 4
    await stage.nothing_left()


async def test_a_span_lives_as_long_as_its_stream_and_counts_its_messages() -> None:
    spans = Spans()
    async with guides(1) as served, MeshChannel(Instances(*served), spans.tracer) as channel:
        stage = Stage(served, channel, spans)
        stage.hinder(waits_at=2)
        call = stage.stub.ListFeatures(EVERYWHERE)
        await call.read()
        assert not spans.ended
        stage.guides[0].release.set()
        async for _ in call:
            pass
        stage.hinder(waits_at=None)
        await stage.stub.RecordRoute(points(7))
        async for _ in stage.stub.RouteChat(notes(*"abc")):
            pass
        stage.hinder(fails_at=2)
        with pytest.raises(CallError):
            async for _ in stage.stub.ListFeatures(EVERYWHERE):
                pass
        await stage.nothing_left()
    counts = [
        (
            span.attributes["messages.sent"],
            span.attributes["messages.received"],
            span.attributes["rpc.grpc.status_code"],
        )
        for span in spans.of(SpanKind.CLIENT)
    ]
    assert counts == [(0, 5, 0), (7, 1, 0), (3, 3, 0), (0, 2, 14)]


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_stream_is_begun_anew_only_before_its_first_message(idempotent: bool) -> None:
    async with guides(2) as served, MeshChannel(Instances(*served), idempotent=idempotent) as channel:
        stage = Stage(served, channel, Spans())
        stage.guides[0].fails_at = 0
        read, failed = [], 0
        for _ in range(4):
            try:
                read += [feature async for feature in stage.stub.ListFeatures(EVERYWHERE)]
            except CallError:
                failed += 1
        assert (len(read), failed) == ((20, 0) if idempotent else (10, 2))
        stage.guides[0].fails_at = stage.guides[1].fails_at = 1
        begun = sum(guide.begun for guide in stage.guides)
        with pytest.raises(CallError, match="failed at 1"):
            _ = [feature async for feature in stage.stub.ListFeatures(EVERYWHERE)]
        assert sum(guide.begun for guide in stage.guides) == begun + 1


async def test_a_stream_goes_elsewhere_where_an_instance_cannot_be_reached() -> None:
    async with guides(1) as served, MeshChannel(Instances(*served, f"127.0.0.1:{free_port()}")) as channel:
        stub = Stage(served, channel, Spans()).stub
        for _ in range(4):
            assert (await stub.RecordRoute(points(3), timeout=20)).point_count == 3
            assert len([note async for note in stub.RouteChat(notes(*"abc"), timeout=20)]) == 3


async def test_requests_are_sent_again_from_the_first_one_on_as_far_as_they_are_kept() -> None:
    async with guides(2) as served, MeshChannel(Instances(*served), idempotent=True) as channel:
        stage = Stage(served, channel, Spans())
        stage.guides[0].fails_at = 3
        assert [(await stage.stub.RecordRoute(points(5))).point_count for _ in range(2)] == [5, 5]
        stage.hinder(fails_at=MOST_KEPT + 50)
        with pytest.raises(CallError, match="failed at") as caught:
            await stage.stub.RecordRoute(points(MOST_KEPT * 10))
        assert len(caught.value.attempts) == 1


async def test_an_instance_that_breaks_its_streams_is_ejected_and_one_with_patient_callers_is_not(stage: Stage) -> None:
    stage.hinder(waits_at=1)
    for _ in range(8):
        with pytest.raises(CallError, match="deadline exceeded"):
            _ = [feature async for feature in stage.stub.ListFeatures(EVERYWHERE, timeout=0.1)]
    assert [endpoint.ready for endpoint in stage.endpoints] == [True, True]
    stage.hinder(waits_at=None)
    sick = next(iter(stage.served))
    stage.served[sick].fails_at = 1
    for _ in range(10):
        with suppress(CallError):
            _ = [feature async for feature in stage.stub.ListFeatures(EVERYWHERE)]
    assert [endpoint.instance for endpoint in stage.endpoints if not endpoint.ready] == [sick]


async def test_an_error_of_the_callers_own_requests_is_told(stage: Stage) -> None:
    def requests() -> Iterator[Point]:
        yield Point()
        raise ValueError("out of points")

    with pytest.raises(CallError, match="out of points") as caught:
        await stage.stub.RecordRoute(requests())
    assert caught.value.code() is Code.CANCELLED
    with pytest.raises(CallError, match="requests ended by"):
        await stage.stub.RecordRoute(iter(["not a point"]))
    with pytest.raises(grpc.aio.UsageError):
        await stage.stub.RouteChat(notes("a")).write(RouteNote())
    await stage.nothing_left()


async def test_streams_of_a_closed_channel_end_with_an_error() -> None:
    async with guides(1) as served, MeshChannel(Instances(*served)) as channel:
        stage = Stage(served, channel, Spans())
        stage.hinder(waits_at=1)
        call, writing = stage.stub.ListFeatures(EVERYWHERE), stage.stub.RouteChat()
        await call.read()
        await writing.write(RouteNote())
        await channel.close()
        for ended in call, writing:
            with pytest.raises(CallError, match="the channel was closed"):
                await read_all(ended)
        with pytest.raises(CallError, match="the channel was closed"):
            await writing.write(RouteNote())


async def test_a_stream_whose_connection_is_closed_under_it_ends_with_unavailable() -> None:
    async with guides(1) as served, MeshChannel(Instances(*served), idempotent=True) as channel:
        stage = Stage(served, channel, Spans())
        stage.hinder(waits_at=1)
        call = stage.stub.ListFeatures(EVERYWHERE)
        await call.read()
        cut = asyncio.create_task(call.read())
        await asyncio.sleep(0)
        await stage.endpoints[0]._connection._shared.channel.close()
        with pytest.raises(CallError, match="cut off") as caught:
            await cut
        assert caught.value.code() is Code.UNAVAILABLE
        await stage.nothing_left()


async def test_an_answer_that_cannot_be_decoded_ends_its_stream_with_internal(stage: Stage) -> None:
    def decode(message: bytes) -> Any:
        raise ValueError("no answer")

    method = "/routeguide.RouteGuide/ListFeatures"
    stream: Any = stage.channel.unary_stream(method, Rectangle.SerializeToString, decode)
    with pytest.raises(CallError, match="cannot be decoded") as caught:
        await stream(EVERYWHERE).read()
    assert caught.value.code() is Code.INTERNAL
    method = "/routeguide.RouteGuide/RecordRoute"
    summary: Any = stage.channel.stream_unary(method, Point.SerializeToString, decode)
    with pytest.raises(CallError, match="cannot be decoded"):
        await summary(points(2))
    await stage.nothing_left()


async def test_streams_of_a_channel_to_one_instance_are_traced_and_leave_nothing() -> None:
    spans = Spans()
    async with guides(1) as served:
        (address,) = served
        async with instance_channel(address, spans.tracer) as channel:
            stub: Any = RouteGuideStub(channel)  # type: ignore[no-untyped-call]
            assert len([feature async for feature in stub.ListFeatures(EVERYWHERE)]) == 5
            call = stub.RouteChat()
            await call.write(RouteNote(message="a"))
            await call.read()
            del call
            gc.collect()
            await until(lambda: not spans.open, lambda: spans.ended)
    assert [span.attributes["rpc.grpc.status_code"] for span in spans.ended] == [0, 1]


async def test_a_server_that_ends_early_is_no_error_whatever_is_being_sent() -> None:
    # grpc.aio alone makes INTERNAL of it wherever a request meets the end: in about half of these.
    async with guides(1) as served, MeshChannel(Instances(*served)) as channel:
        stage = Stage(served, channel, Spans())
        for _ in range(100):
            answers = [note.message async for note in stage.stub.RouteChat(notes("a", "that is all", *"bcdefgh"))]
            assert answers == ["a"]
        await stage.nothing_left()
