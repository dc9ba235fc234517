"""Hedging: a second attempt beside one that takes long."""

import asyncio
import random
from typing import Any

import grpc
import pytest

from meshkit import MeshChannel, Retry, RetryError, RoundRobin
from meshkit.attempt import current_attempt
from meshkit.client import InstanceEndpoint, RetryBudget, instance_breaker
from meshkit.client.hedge import Hedging
from meshkit.testing import FixedInstances
from tests.support.fake_time import fake_time, now
from tests.support.fakes import FixedEndpoints, answering, failing

SEED = 2013


class Slow:
    """An endpoint that takes its time, and counts how its calls have ended."""

    def __init__(self, seconds: float, answer: Any = "slow", error: Any = None) -> None:
        self.seconds, self.answer, self.error = seconds, answer, error
        self.begun = self.cancelled = 0

    async def __call__(self, request: Any) -> Any:
        self.begun += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await self.error(request) if self.error else self.answer


# p99 of one in three that is 500 ms late in 5% of its calls: 500 ms where nobody hedges, as 1.7% of all are late.
@pytest.mark.parametrize("hedge", ["p95", 0.03])
def test_the_tail_of_one_late_replica_is_cut_off_for_a_tenth_more_attempts_at_most(hedge: float | str) -> None:
    measured: list[float] = []

    @fake_time
    async def simulated(policy: float | str | None) -> None:
        rng = random.Random(SEED)
        attempts = 0

        def replica(lateness: float) -> Any:
            async def endpoint(_: Any) -> None:
                nonlocal attempts
                attempts += 1
                late = 0.5 if rng.random() < lateness else 0.0
                await asyncio.sleep(rng.uniform(0.005, 0.015) + late)

            return endpoint

        source = FixedEndpoints(a=replica(0), b=replica(0), late=replica(0.05))
        retry = Retry(RoundRobin(source), timeout=10, hedge=policy)
        took = []
        for _ in range(5000):
            start = now()
            await retry(None)
            took.append(now() - start)
        measured.extend((sorted(took)[len(took) * 99 // 100], attempts / len(took)))
        assert sum(endpoint.in_flight for endpoint in source.endpoints) == 0

    simulated(None)
    simulated(hedge)
    plain, _, p99, attempts = measured
    print(f"seed {SEED}: p99 {plain * 1000:.0f} ms, with {hedge}: {p99 * 1000:.0f} ms, {attempts:.3f} attempts a call")
    assert plain > 0.5
    assert p99 < 0.1
    assert attempts <= 1.1


@fake_time
async def test_the_first_good_answer_wins_and_the_loser_has_ended() -> None:
    slow = Slow(60)
    source = FixedEndpoints(a=slow, b=Slow(0.01, "quick"))
    start = now()
    assert await Retry(RoundRobin(source), timeout=100, hedge=0.05)(None) == "quick"
    assert now() - start == pytest.approx(0.06)
    assert (slow.begun, slow.cancelled) == (1, 1)
    assert [endpoint.in_flight for endpoint in source.endpoints] == [0, 0]


@fake_time
async def test_the_first_attempt_may_win_though_a_second_was_made() -> None:
    second = Slow(60)
    retry = Retry(RoundRobin(FixedEndpoints(a=Slow(0.1, "first"), b=second)), timeout=100, hedge=0.05)
    assert await retry(None) == "first"
    assert (second.begun, second.cancelled) == (1, 1)


@fake_time
async def test_a_loser_s_cancellation_counts_against_nobody() -> None:
    breaker = instance_breaker("slow", clock=now)
    told: list[Any] = []
    slow: InstanceEndpoint[Any, Any] = InstanceEndpoint("slow", Slow(60), breaker=breaker)
    slow.watch = lambda seconds, error: told.append((seconds, error))
    source = FixedEndpoints(b=answering("book"))
    source.endpoints.insert(0, slow)
    retry = Retry(RoundRobin(source), timeout=100, hedge=0.05)
    for _ in range(50):
        assert await retry(None) == "book"
    assert slow.ready
    assert breaker.current_state == "closed"
    assert told == []


@fake_time
async def test_a_second_attempt_goes_to_an_instance_that_the_call_has_not_tried() -> None:
    seen: list[tuple[int, str]] = []

    def replica(name: str) -> Any:
        async def endpoint(_: Any) -> Any:
            attempt = current_attempt.get()
            assert attempt is not None
            seen.append((attempt.number, attempt.instance))
            if attempt.number < 3:
                await asyncio.sleep(1)
                return await failing(grpc.StatusCode.UNAVAILABLE)(None)
            return name

        return endpoint

    source = FixedEndpoints(a=replica("a"), b=replica("b"), c=replica("c"))
    assert await Retry(RoundRobin(source), timeout=100, hedge=0.1)(None) == "c"
    assert seen == [(1, "a"), (2, "b"), (3, "c")]


@fake_time
async def test_there_is_none_where_no_other_instance_is_ready() -> None:
    only = Slow(1, "book")
    assert await Retry(RoundRobin(FixedEndpoints(a=only)), timeout=10, hedge=0.1)(None) == "book"
    sick, breaker = Slow(0), instance_breaker("sick", clock=now)
    breaker.open()
    source = FixedEndpoints(a=only)
    source.endpoints.append(InstanceEndpoint("sick", sick, breaker=breaker))
    assert await Retry(RoundRobin(source), timeout=10, hedge=0.1)(None) == "book"
    assert sick.begun == 0


@fake_time
async def test_second_attempts_are_among_the_attempts_and_within_the_budget() -> None:
    slow = Slow(1, "book")
    source = FixedEndpoints(a=slow, b=slow)
    await Retry(RoundRobin(source), attempts=1, timeout=10, hedge=0.1)(None)
    assert slow.begun == 1
    budget = RetryBudget(reserve=1, ratio=0.2, min_per_second=0, clock=now)
    retry = Retry(RoundRobin(source), timeout=10, hedge=0.1, budget=budget)
    slow.begun = 0
    for _ in range(100):
        await retry(None)
    assert slow.begun == pytest.approx(100 + 1 + 20, abs=2)


@fake_time
async def test_a_failed_attempt_waits_for_the_other_and_the_error_names_both() -> None:
    sick = failing(grpc.StatusCode.UNAVAILABLE)
    source = FixedEndpoints(a=Slow(0.2, error=sick), b=Slow(1, "book"))
    assert await Retry(RoundRobin(source), timeout=10, hedge=0.1)(None) == "book"
    source = FixedEndpoints(a=Slow(0.2, error=sick), b=Slow(0.3, error=sick))
    with pytest.raises(RetryError, match=r"all 2 attempts failed: #1 a UNAVAILABLE.*#2 b UNAVAILABLE") as caught:
        await Retry(RoundRobin(source), timeout=10, attempts=2, hedge=0.1)(None)
    assert [attempt.instance for attempt in caught.value.attempts] == ["a", "b"]


@fake_time
async def test_an_answer_about_the_request_itself_ends_both() -> None:
    other = Slow(60)
    source = FixedEndpoints(a=Slow(0.2, error=failing(grpc.StatusCode.NOT_FOUND)), b=other)
    with pytest.raises(RetryError, match="not retried: #1 a NOT_FOUND"):
        await Retry(RoundRobin(source), timeout=100, hedge=0.1)(None)
    assert other.cancelled == 1


@fake_time
async def test_whoever_cancels_the_call_cancels_both_attempts() -> None:
    slow = Slow(60)
    call = asyncio.create_task(Retry(RoundRobin(FixedEndpoints(a=slow, b=slow)), timeout=100, hedge=0.1)(None))
    await asyncio.sleep(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (slow.begun, slow.cancelled) == (2, 2)
    assert len(asyncio.all_tasks()) == 1


@fake_time
async def test_a_percentile_is_measured_and_does_not_shrink_by_those_that_were_outrun() -> None:
    rng = random.Random(SEED)
    hedging = Hedging("p90")

    async def takes(seconds: float) -> None:
        await asyncio.sleep(seconds)

    second = 0

    def another() -> Any:
        nonlocal second
        second += 1
        return takes(rng.uniform(0, 1))

    for number in range(5000):
        if number == 49:
            assert hedging.delay is None
        await hedging.run(takes(rng.uniform(0, 1)), another, is_final=lambda _: False)
    print(f"seed {SEED}: delay {hedging.delay}, {second} of 5000")
    assert hedging.delay == pytest.approx(0.9, abs=0.05)
    assert second == pytest.approx(500, rel=0.2)


@pytest.mark.parametrize("delay", ["95", "p0", "p100", "q95", -1, float("nan"), float("inf")])
def test_a_senseless_delay_is_refused(delay: Any) -> None:
    with pytest.raises(ValueError, match="expected a"):
        Hedging(delay)


async def test_what_must_not_be_called_twice_is_not_hedged() -> None:
    with pytest.raises(ValueError, match="idempotent"):
        Retry(RoundRobin(FixedEndpoints()), idempotent=False, hedge=0.1)
    with pytest.raises(ValueError, match="idempotent"):
        MeshChannel(FixedInstances(), hedge=0.1)
