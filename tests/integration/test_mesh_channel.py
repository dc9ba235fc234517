"""Unary calls of a generated stub over the mesh channel, on real gRPC."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from helloworld_pb2 import HelloReply, HelloRequest
from helloworld_pb2_grpc import GreeterStub
from opentelemetry.trace import SpanKind

from localmesh.ports import free_port
from meshkit import CallError, HystrixBreaker, MeshChannel, root_span
from meshkit.client import Random
from meshkit.client.outgoing import Method, Outgoing
from meshkit.deadline import within
from tests.support.example_services import Greeter, Instances, Spans, greeters

Code = grpc.StatusCode
State = grpc.ChannelConnectivity
METHOD = "helloworld.Greeter/SayHello"


@pytest.fixture
async def served() -> AsyncIterator[dict[str, Greeter]]:
    async with greeters(3) as served:
        yield served


def hello(channel: grpc.aio.Channel, name: str = "world", **options: Any) -> Any:
    stub: Any = GreeterStub(channel)  # type: ignore[no-untyped-call]
    return stub.SayHello(HelloRequest(name=name), **options)


def seen(served: dict[str, Greeter]) -> list[str]:
    return [name for greeter in served.values() for name in greeter.seen]


async def test_a_generated_stub_works_unchanged_and_its_calls_are_spread(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served)) as channel:
        assert isinstance(channel, grpc.aio.Channel)
        for _ in range(9):
            assert (await hello(channel, timeout=5)).message == "Hello world"
    assert [len(greeter.seen) for greeter in served.values()] == [3, 3, 3]


async def test_newer_stubs_ask_with_registered_methods(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served)) as channel:
        encode, decode = HelloRequest.SerializeToString, HelloReply.FromString
        call = channel.unary_unary("/" + METHOD, encode, decode, _registered_method=True)
        assert (await call(HelloRequest(name="you"))).message == "Hello you"


async def test_a_call_object_has_all_that_grpc_s_has(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served)) as channel:
        call = hello(channel, timeout=5, metadata=(("from", "here"),))
        done: list[Any] = []
        call.add_done_callback(done.append)
        assert isinstance(call, grpc.aio.UnaryUnaryCall)
        assert not call.done()
        await call.wait_for_connection()
        assert await call.code() is Code.OK
        assert await call.details() == ""
        assert (await call.trailing_metadata())["greeter"] == "here"
        assert isinstance(await call.initial_metadata(), grpc.aio.Metadata)
        assert call.done()
        assert not call.cancelled()
        assert not call.cancel()
        assert 0 < (call.time_remaining() or 0) < 5
        assert (await call).message == (await call).message == "Hello world"
        assert done == [call]
        assert hello(channel).time_remaining() is None
    assert next(greeter.metadata[0].get("from") for greeter in served.values() if greeter.seen) == "here"


async def test_an_error_is_grpc_s_to_the_letter_and_names_every_attempt(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served), idempotent=True) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await hello(channel, "nobody")
        error = caught.value
        assert isinstance(error, CallError)
        assert (error.code(), error.details()) == (Code.NOT_FOUND, "no such person")
        assert error.trailing_metadata()["greeter"] == "here"
        call = hello(channel, "unwell")
        with pytest.raises(CallError) as caught:
            await call
        assert (caught.value.code(), await call.code()) == (Code.UNAVAILABLE, Code.UNAVAILABLE)
        assert await call.details() == "failed to connect to all addresses"
        assert (await call.trailing_metadata())["greeter"] == "here"
        assert sorted(attempt.instance for attempt in caught.value.attempts) == sorted(served)
        assert all(address in str(caught.value) for address in served)
        assert pickle.loads(pickle.dumps(caught.value)).code() is Code.UNAVAILABLE


@pytest.mark.parametrize(
    ("idempotent", "calls"), [((), 1), ([METHOD], 3), (["/" + METHOD], 3), (True, 3), (["a/b"], 1)]
)
async def test_only_what_may_be_called_twice_is_called_twice(
    served: dict[str, Greeter], idempotent: Any, calls: int
) -> None:
    async with MeshChannel(Instances(*served), idempotent=idempotent) as channel:
        with pytest.raises(CallError, match="UNAVAILABLE"):
            await hello(channel, "unwell")
    assert len(seen(served)) == calls


async def test_what_reached_no_server_is_made_again_whatever_the_method(served: dict[str, Greeter]) -> None:
    nobody = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    async with MeshChannel(Instances(*served, *nobody)) as channel:
        for number in range(20):
            assert (await hello(channel, str(number), timeout=5)).message == f"Hello {number}"
    assert sorted(seen(served), key=int) == [str(number) for number in range(20)]


async def test_where_nobody_can_be_reached_the_error_names_all_that_were_tried() -> None:
    nobody = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    async with MeshChannel(Instances(*nobody)) as channel:
        with pytest.raises(CallError, match="cannot connect") as caught:
            await hello(channel, timeout=5)
        assert sorted(attempt.instance for attempt in caught.value.attempts) == sorted(nobody)
    async with MeshChannel(Instances()) as channel:
        with pytest.raises(CallError, match="no instance of the service is known") as caught:
            await hello(channel)
        assert caught.value.code() is Code.UNAVAILABLE


async def test_the_call_s_time_limit_and_the_caller_s_deadline_travel(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served)) as channel:
        await hello(channel, timeout=50)
        async with within(20):
            await hello(channel)
            await hello(channel, timeout=50)
            await hello(channel, timeout=10)
        await hello(channel)
        left = [seconds for greeter in served.values() for seconds in greeter.left]
        assert len([seconds for seconds in left if seconds is None]) == 1
        assert sorted(round(seconds, -1) for seconds in left if seconds) == [10, 20, 20, 50]


async def test_a_call_that_is_not_made_again_has_all_of_its_time(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served)) as channel:
        start = asyncio.get_running_loop().time()
        with pytest.raises(CallError, match="DEADLINE_EXCEEDED"):
            await hello(channel, "wait", timeout=0.6)
        assert asyncio.get_running_loop().time() - start > 0.5
    assert seen(served) == ["wait"]


async def test_attempts_of_an_idempotent_call_share_its_time(served: dict[str, Greeter]) -> None:
    hung, *others = served.values()
    for greeter in others:
        greeter.release.set()
    async with MeshChannel(Instances(*served), idempotent=True) as channel:
        for _ in range(3):
            assert (await hello(channel, "wait", timeout=3)).message == "Hello wait"
    assert hung.seen


async def test_a_call_can_be_cancelled_by_its_object_and_by_whoever_awaits_it(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served)) as channel:
        call = hello(channel, "wait")
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert (await call.code(), await call.details()) == (Code.CANCELLED, "Locally cancelled by application!")
        call = hello(channel, "wait")

        async def wait() -> None:
            await call

        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiter.cancel()
        assert await call.code() is Code.CANCELLED
        assert call.cancelled()


async def test_wait_for_ready_waits_for_an_instance(served: dict[str, Greeter]) -> None:
    instances = Instances()
    async with MeshChannel(instances) as channel:
        assert channel.get_state() is State.TRANSIENT_FAILURE
        waiting = hello(channel, wait_for_ready=True, timeout=20)
        with pytest.raises(CallError, match="DEADLINE_EXCEEDED"):
            await hello(channel, wait_for_ready=True, timeout=0.2)
        assert not waiting.done()
        instances.change(*served)
        assert (await waiting).message == "Hello world"
        await channel.channel_ready()
        assert channel.get_state(try_to_connect=True) is State.READY


async def test_a_closed_channel_ends_its_calls_with_an_error_and_makes_none(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served)) as channel:
        call = hello(channel, "wait")
        await until_seen(served, "wait")
    with pytest.raises(CallError, match="the channel was closed") as caught:
        await call
    assert caught.value.code() is Code.CANCELLED
    assert channel.get_state() is State.SHUTDOWN
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        hello(channel)
    with pytest.raises(grpc.aio.UsageError):
        await channel.channel_ready()
    with pytest.raises(grpc.aio.UsageError, match="async with"):
        hello(MeshChannel(Instances(*served)))
    await channel.close()


async def test_a_channel_that_is_closed_with_grace_lets_its_calls_end(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served)) as channel:
        call = hello(channel, "wait")
        await until_seen(served, "wait")
        closing = asyncio.create_task(channel.close(grace=30))
        for greeter in served.values():
            greeter.release.set()
        assert (await call).message == "Hello wait"
        await closing


async def test_a_call_that_cannot_be_sent_speaks_against_nobody(served: dict[str, Greeter]) -> None:
    async with MeshChannel(Instances(*served), idempotent=True) as channel:
        for _ in range(20):
            with pytest.raises(CallError, match="the call cannot be made") as caught:
                await hello(channel, metadata=(("Not A Header", "x"),))
            assert (caught.value.code(), len(caught.value.attempts)) == (Code.INVALID_ARGUMENT, 1)
        call: Any = channel.unary_unary("/" + METHOD, HelloRequest.SerializeToString)
        with pytest.raises(CallError, match="the request cannot be encoded"):
            call("not a request")
        for _ in range(3):
            await hello(channel)
    assert [len(greeter.seen) for greeter in served.values()] == [1, 1, 1]


async def test_credentials_and_compression_reach_grpc_and_waiting_for_ready_does_not() -> None:
    made: list[Any] = []

    async def make_call(request: bytes, **options: Any) -> str:
        made.append((request, options))
        return "answer"

    async def endpoint(call: Outgoing) -> Any:
        return await call.attempt(make_call)

    method = Method("unary_unary", "/a/b", None, None, endpoint, repeatable=False)
    options = {"metadata": None, "credentials": "credentials", "compression": "gzip"}
    call = Outgoing(method, b"request", timeout=None, ready=None, options=options)
    await call.start(Spans().tracer)
    assert (call.answer, made) == ("answer", [(b"request", options)])


async def test_attempts_of_a_call_are_one_trace_within_the_current_span_or_under_one_of_their_own(
    served: dict[str, Greeter],
) -> None:
    spans = Spans()
    async with MeshChannel(Instances(*served), spans.tracer, idempotent=True) as channel:
        with pytest.raises(CallError):
            await hello(channel, "unwell")
        assert [span.kind for span in spans.ended] == [SpanKind.CLIENT] * 3 + [SpanKind.INTERNAL]
        assert len({span.context.trace_id for span in spans.ended}) == 1
        assert {span.name for span in spans.ended} == {METHOD}
        assert [span.attributes.get("attempt") for span in spans.ended] == [1, 2, 3, None]
        with root_span(spans.tracer, "two calls"):
            await hello(channel)
            await hello(channel)
        *calls, outer = spans.ended[4:]
        assert [span.parent.span_id for span in calls] == [outer.context.span_id] * 2


async def test_a_balancer_and_a_middleware_of_one_s_own(served: dict[str, Greeter]) -> None:
    breaker = HystrixBreaker("greeter", request_volume=1)
    async with MeshChannel(Instances(*served), balancer=Random, middleware=breaker) as channel:
        await hello(channel)
        breaker.open()
        with pytest.raises(CallError, match="breaker greeter is open") as caught:
            await hello(channel)
        assert (caught.value.code(), caught.value.attempts) == (Code.UNAVAILABLE, ())
    with pytest.raises(TypeError, match="as a list"):
        MeshChannel(Instances(), idempotent="Greeter/SayHello")


async def until_seen(served: dict[str, Greeter], name: str) -> None:
    async with asyncio.timeout(30):
        while name not in seen(served):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class Noting(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds a header, and notes each attempt that passes."""

    def __init__(self) -> None:
        self.passed = 0

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.passed += 1
        metadata = grpc.aio.Metadata(*(client_call_details.metadata or ()), ("noted", "yes"))
        return await continuation(client_call_details._replace(metadata=metadata), request)


async def test_interceptors_of_one_s_own_are_around_each_attempt(served: dict[str, Greeter]) -> None:
    noting, spans = Noting(), Spans()
    async with MeshChannel(Instances(*served), spans.tracer, idempotent=True, interceptors=[noting]) as channel:
        with pytest.raises(CallError, match="UNAVAILABLE"):
            await hello(channel, "unwell")
        assert (await hello(channel)).message == "Hello world"
    assert noting.passed == 4
    assert all(metadata["noted"] == "yes" for greeter in served.values() for metadata in greeter.metadata)
    assert len(spans.of(SpanKind.CLIENT)) == 4


async def test_channel_options_of_one_s_own_win(served: dict[str, Greeter]) -> None:
    options = (("grpc.max_receive_message_length", 8),)
    async with MeshChannel(Instances(*served), options=options) as channel:
        with pytest.raises(CallError, match="RESOURCE_EXHAUSTED"):
            await hello(channel, "a long name")
