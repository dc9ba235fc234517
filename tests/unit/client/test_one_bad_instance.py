"""One bad instance of three, whatever it answers, at any pace: no call fails, and it is ejected after three answers."""

import asyncio
from typing import Any

import grpc
import pytest

from meshkit import HystrixBreaker, Retry, RetryError, RoundRobin
from meshkit.client import InstanceEndpoint, instance_breaker
from meshkit.errors import CutOffError, FailedAttempt, NoEndpointsError, shortened, status_of
from tests.support.fake_time import fake_time, now
from tests.support.fakes import FixedEndpoints, answering, failing, rpc_error

Code = grpc.StatusCode
OF_ONE = [
    Code.UNAVAILABLE,
    Code.UNKNOWN,
    Code.INTERNAL,
    Code.DATA_LOSS,
    Code.DEADLINE_EXCEEDED,
    Code.CANCELLED,
    Code.UNIMPLEMENTED,
    Code.UNAUTHENTICATED,
    Code.PERMISSION_DENIED,
    Code.RESOURCE_EXHAUSTED,
]
OF_THE_REQUEST = [
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.FAILED_PRECONDITION,
    Code.ABORTED,
    Code.OUT_OF_RANGE,
]


def judged(**behaviours: Any) -> FixedEndpoints:
    source = FixedEndpoints()
    source.endpoints = [
        InstanceEndpoint(name, behaviour, breaker=instance_breaker(name, clock=now))
        for name, behaviour in behaviours.items()
    ]
    return source


async def raises_value_error(_: Any) -> Any:
    raise ValueError("a bug")


def raising(error: BaseException) -> Any:
    async def endpoint(_: Any) -> Any:
        raise error

    return endpoint


@pytest.mark.parametrize("pause", [0.0, 0.05, 5.0], ids=lambda pause: f"every {pause:g} s")
@pytest.mark.parametrize(
    "bad",
    [failing(code) for code in OF_ONE] + [raises_value_error, raising(CutOffError("gone"))],
    ids=[*(code.name for code in OF_ONE), "ValueError", "CutOffError"],
)
def test_it_costs_no_call_is_ejected_after_3_answers_and_the_outer_breaker_stays_closed(bad: Any, pause: float) -> None:
    @fake_time
    async def run() -> None:
        answers = 0

        async def counted(request: Any) -> Any:
            nonlocal answers
            answers += 1
            return await bad(request)

        source = judged(bad=counted, a=answering("book"), b=answering("book"))
        outer = HystrixBreaker("service", error_percent=1, request_volume=5, clock=now)
        call = outer(Retry(RoundRobin(source), timeout=30))
        for _ in range(60):
            assert await call(None) == "book"
            if answers >= 3 and not source.endpoints[0].ready:
                break
            await asyncio.sleep(pause)
        assert answers == 3
        assert not source.endpoints[0].ready
        assert outer.current_state == "closed"

    run()


@pytest.mark.parametrize("code", OF_THE_REQUEST, ids=lambda code: code.name)
def test_an_answer_about_the_request_is_not_made_again_and_speaks_against_nobody(code: grpc.StatusCode) -> None:
    @fake_time
    async def run() -> None:
        source = judged(a=failing(code), b=answering("book"))
        call = HystrixBreaker("service", request_volume=1, clock=now)(Retry(RoundRobin(source)))
        results = await asyncio.gather(*(call(None) for _ in range(10)), return_exceptions=True)
        errors = [result for result in results if isinstance(result, RetryError)]
        assert [(error.code, len(error.attempts)) for error in errors] == [(code, 1)] * 5
        assert source.endpoints[0].ready

    run()


@pytest.mark.parametrize("code", [Code.UNIMPLEMENTED, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED])
def test_what_all_instances_say_is_the_result_and_ejects_none(code: grpc.StatusCode) -> None:
    @fake_time
    async def run() -> None:
        source = judged(**dict.fromkeys("abc", failing(code)))
        call = HystrixBreaker("service", request_volume=1, clock=now)(Retry(RoundRobin(source), timeout=30))
        for _ in range(20):
            with pytest.raises(RetryError, match="all 3 attempts failed") as caught:
                await call(None)
            assert caught.value.code is code
        assert all(endpoint.ready for endpoint in source.endpoints)

    run()


@fake_time
async def test_what_the_only_instance_says_for_good_is_not_asked_for_again() -> None:
    retry = Retry(RoundRobin(judged(a=failing(Code.PERMISSION_DENIED))))
    with pytest.raises(RetryError, match="no other instance is left: #1 a PERMISSION_DENIED") as caught:
        await retry(None)
    assert len(caught.value.attempts) == 1


@fake_time
async def test_a_refusal_is_not_repeated_without_a_pause() -> None:
    retry = Retry(RoundRobin(FixedEndpoints(**dict.fromkeys("abc", failing(Code.RESOURCE_EXHAUSTED)))), timeout=10)
    start = now()
    with pytest.raises(RetryError):
        await retry(None)
    assert now() - start >= 0.2


@fake_time
async def test_a_call_that_must_not_happen_twice_is_made_again_only_where_this_side_refused_it() -> None:
    seen = 0

    async def lost(_: Any) -> Any:
        nonlocal seen
        seen += 1
        raise rpc_error(Code.UNAVAILABLE)

    with pytest.raises(RetryError, match="not retried"):
        await Retry(RoundRobin(FixedEndpoints(a=lost, b=lost)), idempotent=False)(None)
    assert seen == 1
    refusing = FixedEndpoints(a=raising(NoEndpointsError("nobody behind it")), b=answering("book"))
    assert await Retry(RoundRobin(refusing), idempotent=False)(None) == "book"


class Line:
    """A connection that stands, to an instance that never answers."""

    def __init__(self) -> None:
        self.made_anew = 0

    async def __call__(self, _: Any) -> Any:
        await asyncio.sleep(3600)

    def connected(self) -> bool:
        return True

    def reconnect(self) -> None:
        self.made_anew += 1


@pytest.mark.parametrize("at_once", [1, 50])
def test_calls_that_time_out_one_after_the_other_make_the_connection_anew(at_once: int) -> None:
    @fake_time
    async def run() -> None:
        line = Line()
        retry = Retry(RoundRobin(FixedEndpoints(silent=line)), attempts=1, timeout=1)
        for calls in (1, at_once):
            await asyncio.gather(*(retry(None) for _ in range(calls)), return_exceptions=True)
            await asyncio.sleep(10)
        assert line.made_anew == 1

    run()


@fake_time
async def test_1000_calls_under_way_to_an_instance_that_dies_are_made_again_elsewhere() -> None:
    async def dies(_: Any) -> Any:
        await asyncio.sleep(1)
        raise rpc_error(Code.UNAVAILABLE)

    retry = Retry(RoundRobin(judged(dies=dies, a=answering("book"), b=answering("book"))), timeout=10)
    assert await asyncio.gather(*(retry(None) for _ in range(1000))) == ["book"] * 1000


class OddRpcError(grpc.RpcError):
    """As a user's code may raise it: no code at all, or one that is none."""


def test_an_error_of_any_class_has_a_status() -> None:
    odd: Any = OddRpcError()
    assert status_of(odd) is Code.UNKNOWN
    odd.code = lambda: None
    assert status_of(odd) is Code.UNKNOWN
    odd.code = lambda: Code.NOT_FOUND
    assert status_of(odd) is Code.NOT_FOUND
    assert status_of(KeyError("x")) is Code.UNKNOWN
    assert status_of(TimeoutError()) is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("letter", ["x", "é", "门", "😀"])
def test_texts_of_errors_do_not_grow_with_each_tier(letter: str) -> None:
    error: Exception = rpc_error(Code.UNAVAILABLE, letter * 22_000)
    for _ in range(5):
        error = RetryError("all failed", [FailedAttempt(n, "a:1", error, 0.1) for n in range(1, 4)])
    assert len(str(error).encode()) <= 2048
    assert "#1 a:1 UNAVAILABLE" in str(error)
    assert shortened("short") == "short"
