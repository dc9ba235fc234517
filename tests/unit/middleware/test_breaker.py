import asyncio
import contextlib
from dataclasses import replace
from typing import Any, Unpack, get_type_hints

import grpc
import pytest
from structlog.testing import capture_logs

from meshkit import HystrixBreaker, HystrixPolicy
from meshkit.errors import BreakerOpenError, BreakerTimeoutError, MaxConcurrencyError
from meshkit.middleware import StateListener
from meshkit.middleware.policy import HystrixChanges
from tests.support.fake_time import fake_time, now
from tests.support.fakes import answering, rpc_error

good = answering("book")


async def bad(_: Any) -> Any:
    raise rpc_error(grpc.StatusCode.UNAVAILABLE)


async def not_found(_: Any) -> Any:
    raise rpc_error(grpc.StatusCode.NOT_FOUND)


POLICY = HystrixPolicy(timeout=1.0, error_percent=50, sleep_window=5.0, request_volume=4, max_concurrent=100)


def a_breaker(*listeners: StateListener, **changes: Unpack[HystrixChanges]) -> HystrixBreaker:
    return HystrixBreaker("test", POLICY, listeners=listeners, clock=now, **changes)


async def calls(breaker: HystrixBreaker, *endpoints: Any) -> None:
    """Make the calls one after the other; whether they fail is the breaker's business."""
    for endpoint in endpoints:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await breaker(endpoint)(None)


async def opened(*listeners: StateListener, **changes: Unpack[HystrixChanges]) -> HystrixBreaker:
    breaker = a_breaker(*listeners, **changes)
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
async def test_listeners_hear_of_the_states() -> None:
    heard: list[tuple[str, str, str]] = []
    breaker = await opened(lambda breaker, old, new: heard.append((breaker.name, old, new)))
    await asyncio.sleep(5)
    await calls(breaker, good)
    assert heard == [("test", "closed", "open"), ("test", "open", "half-open"), ("test", "half-open", "closed")]


@fake_time
async def test_a_listener_that_raises_stops_no_change_of_state_and_fails_no_call() -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug of its own")

    with capture_logs() as logs:
        breaker = await opened(fail)
        await asyncio.sleep(5)
        assert await breaker(good)(None) == "book"
    assert breaker.current_state == "closed"
    assert [(entry["event"], entry["state"]) for entry in logs] == [
        ("listener failed", state) for state in ("open", "half-open", "closed")
    ]


class OddEnd(BaseException):
    """No Exception, and not asyncio's."""


async def ends_oddly(_: Any) -> Any:
    raise OddEnd


@fake_time
async def test_a_probe_that_ends_in_an_unusual_way_leaves_the_probe_to_the_next_call() -> None:
    breaker = await opened()
    await asyncio.sleep(5)
    with pytest.raises(OddEnd):
        await breaker(ends_oddly)(None)
    thrown_away = breaker.call_async(lambda _: asyncio.sleep(60), None)
    thrown_away.send(None)
    with pytest.raises(BreakerOpenError, match="probe under way"):
        await breaker(good)(None)
    thrown_away.close()
    assert await breaker(good)(None) == "book"
    assert breaker.current_state == "closed"


@fake_time
async def test_an_error_that_is_failure_cannot_judge_is_a_failure_and_reaches_the_caller() -> None:
    def judge(error: Exception) -> bool:
        return bool(error.no_such_attribute)  # type: ignore[attr-defined]

    breaker = a_breaker(request_volume=1, is_failure=judge)
    with capture_logs() as logs, pytest.raises(grpc.aio.AioRpcError):
        await breaker(bad)(None)
    assert [entry["event"] for entry in logs] == ["error not judged: taken for a failure"]
    assert breaker.current_state == "open"
    await asyncio.sleep(5)
    assert await breaker(good)(None) == "book"


@pytest.mark.parametrize("percent", [0, -1, 100.5])
def test_an_error_percentage_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="expected an error percentage above 0 and up to 100, got"):
        HystrixPolicy(error_percent=percent)


def test_a_policy_is_varied_as_a_whole_or_by_single_fields() -> None:
    assert HystrixBreaker("test").policy == HystrixPolicy()
    assert HystrixBreaker("test", POLICY, probes=2).policy == replace(POLICY, probes=2)
    assert get_type_hints(HystrixChanges) == get_type_hints(HystrixPolicy)
