import asyncio
import contextlib
from typing import Any

import grpc
import pybreaker
import pytest

from meshkit import HystrixBreaker
from meshkit.errors import BreakerOpenError, BreakerTimeoutError, MaxConcurrencyError
from tests.support.fake_time import fake_time, now
from tests.support.fakes import answering, rpc_error

good = answering("book")


async def bad(_: Any) -> Any:
    raise rpc_error(grpc.StatusCode.UNAVAILABLE)


async def not_found(_: Any) -> Any:
    raise rpc_error(grpc.StatusCode.NOT_FOUND)


def a_breaker(**options: Any) -> HystrixBreaker:
    defaults = {"timeout": 1.0, "error_percent": 50, "sleep_window": 5.0, "request_volume": 4, "max_concurrent": 100}
    return HystrixBreaker("test", **(defaults | options), clock=now)


async def calls(breaker: HystrixBreaker, *endpoints: Any) -> None:
    """Make the calls one after the other; whether they fail is the breaker's business."""
    for endpoint in endpoints:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await breaker(endpoint)(None)


async def opened(**options: Any) -> HystrixBreaker:
    breaker = a_breaker(**options)
    await calls(breaker, *[bad] * 4)
    assert breaker.current_state == "open"
    return breaker


@fake_time
async def test_it_never_opens_below_the_request_volume() -> None:
    breaker = a_breaker()
    await calls(breaker, bad, bad, bad)
    assert breaker.current_state == "closed"
    await calls(breaker, bad)
    assert breaker.current_state == "open"


@fake_time
async def test_it_opens_at_the_error_percentage_and_not_below() -> None:
    breaker = a_breaker()
    await calls(breaker, good, good, good, bad, bad)
    assert breaker.current_state == "closed"
    await calls(breaker, bad)
    assert breaker.current_state == "open"


@fake_time
async def test_calls_older_than_the_window_do_not_count() -> None:
    breaker = a_breaker(window=10)
    await calls(breaker, bad, bad, bad)
    await asyncio.sleep(11)
    await calls(breaker, bad)
    assert breaker.current_state == "closed"


@fake_time
async def test_the_window_rolls_it_does_not_start_anew() -> None:
    breaker = a_breaker(window=10)
    await calls(breaker, bad, bad)
    await asyncio.sleep(9)
    await calls(breaker, bad, bad)
    assert breaker.current_state == "open"


@fake_time
async def test_open_it_refuses_at_once_until_the_sleep_window_has_passed() -> None:
    breaker = await opened()
    await asyncio.sleep(4.9)
    with pytest.raises(BreakerOpenError, match=r"probe in 0\.1 s") as caught:
        await breaker(good)(None)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    await asyncio.sleep(0.2)
    assert await breaker(good)(None) == "book"
    assert breaker.current_state == "closed"


@fake_time
async def test_exactly_one_of_50_concurrent_calls_is_the_probe() -> None:
    breaker = await opened()
    await asyncio.sleep(5)
    reached = 0

    async def slow(_: Any) -> str:
        nonlocal reached
        reached += 1
        await asyncio.sleep(0.5)
        return "book"

    results = await asyncio.gather(*(breaker(slow)(None) for _ in range(50)), return_exceptions=True)
    assert reached == 1
    assert results.count("book") == 1
    assert sum(isinstance(result, BreakerOpenError) for result in results) == 49


@fake_time
async def test_a_failed_probe_opens_it_for_another_sleep_window() -> None:
    breaker = await opened()
    await asyncio.sleep(5)
    await calls(breaker, bad)
    assert breaker.current_state == "open"
    await asyncio.sleep(4.9)
    with pytest.raises(BreakerOpenError):
        await breaker(good)(None)


@fake_time
async def test_a_probe_that_its_caller_cancels_leaves_the_probe_to_the_next_call() -> None:
    breaker = await opened()
    await asyncio.sleep(5)
    probe: asyncio.Future[None] = asyncio.ensure_future(breaker(lambda _: asyncio.sleep(0.9))(None))
    await asyncio.sleep(0.1)
    probe.cancel()
    await asyncio.gather(probe, return_exceptions=True)
    assert await breaker(good)(None) == "book"
    assert breaker.current_state == "closed"


@fake_time
async def test_closing_forgets_the_failures() -> None:
    breaker = await opened()
    await asyncio.sleep(5)
    await calls(breaker, good, bad, bad, bad)
    assert breaker.current_state == "closed"


@fake_time
async def test_a_call_that_takes_too_long_times_out_and_counts_as_failure() -> None:
    breaker = a_breaker(request_volume=1)
    start = now()
    with pytest.raises(BreakerTimeoutError, match="no answer within 1 s") as caught:
        await breaker(lambda _: asyncio.sleep(60))(None)
    assert now() - start == pytest.approx(1)
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert breaker.current_state == "open"


@fake_time
async def test_more_than_max_concurrent_calls_are_refused_and_count_as_no_answer_of_the_service() -> None:
    breaker = a_breaker(max_concurrent=10)
    results = await asyncio.gather(
        *(breaker(lambda _: asyncio.sleep(0.1, "book"))(None) for _ in range(12)), return_exceptions=True
    )
    assert results.count("book") == 10
    assert sum(isinstance(result, MaxConcurrencyError) for result in results) == 2


@fake_time
async def test_late_results_of_an_earlier_state_are_ignored() -> None:
    breaker = a_breaker(timeout=60)

    async def late_failure(_: Any) -> Any:
        await asyncio.sleep(6)
        raise rpc_error(grpc.StatusCode.UNAVAILABLE)

    late = [asyncio.ensure_future(breaker(late_failure)(None)) for _ in range(10)]
    await asyncio.sleep(0)
    await calls(breaker, *[bad] * 4)
    assert breaker.current_state == "open"
    await asyncio.sleep(5)
    await calls(breaker, good)
    assert breaker.current_state == "closed"
    await asyncio.gather(*late, return_exceptions=True)
    assert breaker.current_state == "closed"


@fake_time
async def test_a_late_success_does_not_close_it() -> None:
    breaker = a_breaker(timeout=60)
    late: asyncio.Future[str] = asyncio.ensure_future(breaker(lambda _: asyncio.sleep(1, "book"))(None))
    await asyncio.sleep(0)
    await calls(breaker, *[bad] * 4)
    assert await late == "book"
    assert breaker.current_state == "open"


@fake_time
async def test_answers_that_are_the_callers_own_doing_do_not_open_it() -> None:
    breaker = a_breaker()
    await calls(breaker, *[not_found] * 20)
    assert breaker.current_state == "closed"


@fake_time
async def test_calls_through_it_run_side_by_side() -> None:
    breaker = a_breaker()
    start = now()
    await asyncio.gather(*(breaker(lambda _: asyncio.sleep(0.2))(None) for _ in range(50)))
    assert now() - start == pytest.approx(0.2)


@fake_time
async def test_pybreakers_listeners_hear_of_the_states() -> None:
    heard: list[str] = []

    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            heard.append(new_state.name)

    breaker = await opened(listeners=[Listener()])
    await asyncio.sleep(5)
    await calls(breaker, good)
    assert heard == ["open", "half-open", "closed"]


@pytest.mark.parametrize("hook", ["before_call", "success", "failure"])
def test_a_listener_that_raises_during_a_probe_does_not_keep_it_open_for_ever(hook: str) -> None:
    @fake_time
    async def run() -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("a bug of its own")

        listener = pybreaker.CircuitBreakerListener()
        breaker = await opened(listeners=[listener])
        await asyncio.sleep(5)
        setattr(listener, hook, fail)
        with pytest.raises(RuntimeError, match="a bug of its own"):
            await breaker(bad if hook == "failure" else good)(None)
        delattr(listener, hook)
        await asyncio.sleep(5)
        assert await breaker(good)(None) == "book"
        assert breaker.current_state == "closed"

    run()


def test_the_blocking_call_of_pybreaker_is_refused() -> None:
    with pytest.raises(TypeError, match="use call_async"):
        HystrixBreaker("test").call(print)
