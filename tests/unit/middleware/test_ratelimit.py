import asyncio
import contextlib

import grpc
import pytest

from meshkit import DelayingLimiter, TokenBucket, caller
from meshkit.deadline import within
from meshkit.errors import RateLimitedError
from meshkit.middleware import ErroringLimiter
from tests.support.fake_time import fake_time, now
from tests.support.fakes import answering


@fake_time
async def test_a_delaying_limiter_of_one_a_second_lets_calls_through_at_the_samples_pace() -> None:
    call = DelayingLimiter(TokenBucket(1, 1, clock=now))(answering("book"))
    start = now()
    passed_at = []
    for _ in range(5):
        await call(None)
        passed_at.append(now() - start)
    assert passed_at == pytest.approx([0, 1, 2, 3, 4], abs=0.001)


@fake_time
async def test_concurrent_calls_get_their_tokens_first_come_first_served() -> None:
    limiter = DelayingLimiter(TokenBucket(10, 1, clock=now))
    order: list[int] = []

    async def call(number: int) -> None:
        await limiter.acquire()
        order.append(number)

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))


@fake_time
async def test_an_erroring_limiter_of_100_a_second_burst_100_passes_400_of_1500_calls_in_3_seconds() -> None:
    call = ErroringLimiter(TokenBucket(100, 100, clock=now))(answering("book"))
    passed = 0
    for _ in range(1500):
        with contextlib.suppress(RateLimitedError):
            await call(None)
            passed += 1
        await asyncio.sleep(1 / 500)
    assert passed == pytest.approx(400, abs=10)
    assert RateLimitedError.code is grpc.StatusCode.RESOURCE_EXHAUSTED


@fake_time
async def test_a_wait_beyond_the_deadline_fails_at_once_and_costs_no_token() -> None:
    limiter = DelayingLimiter(TokenBucket(1, 1, clock=now))
    await limiter.acquire()
    start = now()
    async with within(0.5):
        with pytest.raises(RateLimitedError, match=r"a token would take 1\.000 s, the deadline is in 0\.500 s"):
            await limiter.acquire()
    assert now() == start
    await limiter.acquire()
    assert now() - start == pytest.approx(1, abs=0.001)


@fake_time
async def test_a_call_cancelled_while_it_waits_gives_its_place_to_the_next() -> None:
    limiter = DelayingLimiter(TokenBucket(1, 1, clock=now))
    await limiter.acquire()
    start = now()
    first, second = asyncio.create_task(limiter.acquire()), asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0.5)
    first.cancel()
    await second
    assert now() - start == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (-1, 1), (1, 0)])
def test_a_bucket_without_tokens_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(ValueError, match="expected a"):
        TokenBucket(rate, burst)


def calls_of(limiter: DelayingLimiter, peer: str, count: int) -> list[asyncio.Task[None]]:
    async def call() -> None:
        caller.inherit(lambda: peer)
        await limiter.acquire()

    return [asyncio.create_task(call()) for _ in range(count)]


@fake_time
async def test_a_caller_with_many_calls_delays_another_by_a_turn() -> None:
    limiter = DelayingLimiter(TokenBucket(10, 1, clock=now))
    greedy = calls_of(limiter, "greedy", 100)
    await asyncio.sleep(1)
    start = now()
    (modest,) = calls_of(limiter, "modest", 1)
    await modest
    assert now() - start <= 0.2 + 0.001
    await asyncio.gather(*greedy)
    assert now() - start == pytest.approx(9, abs=0.2)


@fake_time
async def test_when_too_many_wait_the_caller_with_the_most_gives_up_its_last_one() -> None:
    limiter = DelayingLimiter(TokenBucket(1, 1, clock=now), max_waiting=4)
    await limiter.acquire()
    greedy = calls_of(limiter, "greedy", 6)
    await asyncio.sleep(0)
    modest = calls_of(limiter, "modest", 2)
    outcomes = await asyncio.gather(*greedy, *modest, return_exceptions=True)
    refused = [isinstance(outcome, RateLimitedError) for outcome in outcomes]
    assert refused == [False, False, True, True, True, True, False, False]
    assert "4 calls wait already" in str(outcomes[4])


@fake_time
async def test_a_call_without_a_deadline_waits_no_longer_than_the_limit() -> None:
    limiter = DelayingLimiter(TokenBucket(1, 1, clock=now), max_wait=5)
    await limiter.acquire()
    start = now()
    calls = calls_of(limiter, "one", 8)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(outcome, RateLimitedError) for outcome in outcomes] == [False] * 5 + [True] * 3
    assert now() - start == pytest.approx(5, abs=0.01)


@fake_time
async def test_calls_of_many_callers_that_are_cancelled_leave_nothing_and_cost_no_token() -> None:
    limiter = DelayingLimiter(TokenBucket(1, 1, clock=now))
    await limiter.acquire()
    start = now()
    gone = [task for peer in "abc" for task in calls_of(limiter, peer, 3)]
    await asyncio.sleep(0.5)
    for task in gone:
        task.cancel()
    await asyncio.gather(*gone, return_exceptions=True)
    (stays,) = calls_of(limiter, "d", 1)
    await stays
    assert now() - start == pytest.approx(1, abs=0.01)


@fake_time
async def test_a_delaying_limiter_tells_how_many_wait_have_waited_and_were_refused() -> None:
    limiter = DelayingLimiter(TokenBucket(1, 1, clock=now), max_waiting=2)
    await limiter.acquire()
    assert (limiter.waiting, limiter.delayed, limiter.refused) == (0, 0, 0)
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(2)]
    await asyncio.sleep(0)
    assert (limiter.waiting, limiter.delayed, limiter.refused) == (2, 2, 0)
    with pytest.raises(RateLimitedError):
        await limiter.acquire()
    async with within(0.5):
        with pytest.raises(RateLimitedError):
            await limiter.acquire()
    await asyncio.gather(*waiting)
    assert (limiter.waiting, limiter.delayed, limiter.refused) == (0, 2, 2)
