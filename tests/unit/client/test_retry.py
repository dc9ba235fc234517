import asyncio
import random
from typing import Any

import grpc
import pytest

from meshkit import Retry, RetryError, RoundRobin
from meshkit.attempt import Attempt, current_attempt
from meshkit.client import InstanceEndpoint, Random
from meshkit.deadline import remaining, within
from tests.support.fake_time import fake_time, now
from tests.support.fakes import FixedEndpoints, answering, failing

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def hang(_: Any) -> Any:
    await asyncio.sleep(3600)


@fake_time
async def test_not_found_is_not_tried_again() -> None:
    retry = Retry(RoundRobin(FixedEndpoints(a=failing(grpc.StatusCode.NOT_FOUND), b=answering("book"))))
    with pytest.raises(RetryError, match="not retried: #1 a NOT_FOUND") as caught:
        await retry(None)
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert len(caught.value.attempts) == 1


@fake_time
async def test_unavailable_is_tried_three_times_on_different_instances_and_the_error_names_each() -> None:
    dead = failing(UNAVAILABLE, "connection refused")
    retry = Retry(RoundRobin(FixedEndpoints(a=dead, b=dead, c=dead, d=dead)), attempts=3)
    with pytest.raises(RetryError) as caught:
        await retry(None)
    assert [attempt.instance for attempt in caught.value.attempts] == ["a", "b", "c"]
    assert caught.value.code is UNAVAILABLE
    for part in ("all 3 attempts failed", "#1 a UNAVAILABLE", "#2 b", "#3 c", "connection refused"):
        assert part in str(caught.value)


@fake_time
async def test_another_instance_makes_up_for_a_dead_one() -> None:
    retry = Retry(RoundRobin(FixedEndpoints(a=failing(UNAVAILABLE), b=answering("book"))))
    assert await retry(None) == "book"


@fake_time
async def test_an_instance_that_failed_is_not_tried_again_whatever_other_calls_do_in_between() -> None:
    endpoints = FixedEndpoints(a=failing(UNAVAILABLE), b=failing(UNAVAILABLE), c=answering("book"))
    # Random: a balancer that remembers no turn would pick the same one again in one of three tries.
    calls = [Retry(Random(endpoints, random.Random(seed)), attempts=3) for seed in range(50)]
    assert [await retry(None) for retry in calls] == ["book"] * 50


@fake_time
async def test_another_instance_makes_up_for_one_that_is_stopping_and_cancels_new_calls() -> None:
    stopping = failing(grpc.StatusCode.CANCELLED)
    assert await Retry(RoundRobin(FixedEndpoints(a=stopping, b=answering("book"))))(None) == "book"


@fake_time
async def test_the_only_instance_is_tried_again() -> None:
    answers: list[Any] = [failing(UNAVAILABLE), failing(UNAVAILABLE), answering("book")]

    async def recovering(request: Any) -> Any:
        return await answers.pop(0)(request)

    assert await Retry(RoundRobin(FixedEndpoints(a=recovering)))(None) == "book"


@fake_time
async def test_a_hung_instance_never_eats_the_whole_budget_while_others_live() -> None:
    retry = Retry(RoundRobin(FixedEndpoints(a=hang, b=answering("book"))), attempts=3, timeout=0.5)
    start = now()
    assert await retry(None) == "book"
    assert now() - start < 0.25


@fake_time
async def test_a_call_ends_at_its_deadline_even_if_all_instances_hang() -> None:
    retry = Retry(RoundRobin(FixedEndpoints(a=hang, b=hang, c=hang)), attempts=3, timeout=0.5)
    start = now()
    with pytest.raises(RetryError) as caught:
        await retry(None)
    assert now() - start <= 0.5 + 1e-6
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


@fake_time
async def test_the_callers_sooner_deadline_wins() -> None:
    retry = Retry(RoundRobin(FixedEndpoints(a=hang)), attempts=1, timeout=100)
    start = now()
    with pytest.raises((RetryError, TimeoutError)):
        async with within(0.2):
            await retry(None)
    assert now() - start <= 0.2 + 1e-6


@fake_time
async def test_each_attempt_knows_its_number_its_instance_and_the_time_it_has() -> None:
    seen: list[tuple[Attempt | None, float | None]] = []

    async def noting(_: Any) -> Any:
        seen.append((current_attempt.get(), remaining()))
        return await failing(UNAVAILABLE)(None)

    with pytest.raises(RetryError):
        await Retry(RoundRobin(FixedEndpoints(a=noting, b=noting)), attempts=2, timeout=10)(None)
    assert [attempt for attempt, _ in seen] == [Attempt(1, "a"), Attempt(2, "b")]
    assert seen[0][1] == pytest.approx(5)
    assert current_attempt.get() is None
    assert remaining() is None


@fake_time
async def test_an_instance_that_appears_between_attempts_is_used() -> None:
    source = FixedEndpoints()
    call = asyncio.create_task(Retry(RoundRobin(source), attempts=3)(None))
    await asyncio.sleep(0)
    source.endpoints.append(InstanceEndpoint("a", answering("book")))
    assert await call == "book"


@pytest.mark.parametrize("options", [{"attempts": 0}, {"timeout": 0}])
def test_senseless_limits_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Retry(RoundRobin(FixedEndpoints()), **options)


@fake_time
async def test_an_attempt_that_no_other_may_follow_has_all_of_the_time() -> None:
    retry = Retry(RoundRobin(FixedEndpoints(a=hang, b=answering("book"))), timeout=3, idempotent=False)
    start = now()
    with pytest.raises(RetryError, match="#1 a DEADLINE_EXCEEDED after 3000 ms"):
        await retry(None)
    assert now() - start == pytest.approx(3)


@fake_time
async def test_without_a_time_limit_of_its_own_the_caller_s_holds_or_none() -> None:
    async def left(_: Any) -> float | None:
        return remaining()

    retry = Retry(RoundRobin(FixedEndpoints(a=left)), attempts=1, timeout=None)
    assert await retry(None) is None
    async with within(5):
        assert await retry(None) == pytest.approx(5)
