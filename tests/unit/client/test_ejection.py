"""Instances that fail are avoided, never all of them, and come back; retries are bounded."""

import asyncio
import contextlib
import random
from collections import Counter
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from structlog.testing import capture_logs

from meshkit import Endpointer, HystrixBreaker, Retry, RetryError, RoundRobin
from meshkit.backoff import Backoff
from meshkit.client import InstanceEndpoint, Random, RetryBudget, instance_breaker
from meshkit.discovery import InstanceChange
from meshkit.errors import NoEndpointsError
from tests.support.fake_time import fake_time, now
from tests.support.fakes import FixedEndpoints, answering, failing, rpc_error

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def judged(instance: str, behaviour: Any) -> InstanceEndpoint[Any, Any]:
    return InstanceEndpoint(instance, behaviour, breaker=instance_breaker(instance, clock=now))


def judged_endpoints(**behaviours: Any) -> FixedEndpoints:
    source = FixedEndpoints()
    source.endpoints = [judged(name, behaviour) for name, behaviour in behaviours.items()]
    return source


class Line:
    """An instance over a connection that is up or down."""

    def __init__(self, *, up: bool) -> None:
        self.up = up
        self.calls = 0

    async def __call__(self, _: Any) -> str:
        self.calls += 1
        if not self.up:
            raise rpc_error(UNAVAILABLE)
        return "book"

    def connected(self) -> bool:
        return self.up

    def reconnect(self) -> None:
        raise AssertionError("nothing has timed out")


class Coin:
    """Answers UNAVAILABLE for a share of its calls."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.calls = 0
        self._rng = random.Random(2)

    async def __call__(self, _: Any) -> str:
        self.calls += 1
        if self._rng.random() < self.share:
            raise rpc_error(UNAVAILABLE)
        return "book"


async def calls_for(seconds: float, retry: Retry[Any, Any], rate: float = 100) -> int:
    made = 0
    end = now() + seconds
    while now() < end:
        await retry(None)
        made += 1
        await asyncio.sleep(1 / rate)
    return made


@fake_time
async def test_an_instance_that_fails_half_its_calls_keeps_2_percent_and_is_back_once_well() -> None:
    sick = Coin(0.5)
    source = judged_endpoints(a=answering("book"), b=answering("book"), sick=sick)
    retry = Retry(RoundRobin(source), timeout=10, budget=RetryBudget(clock=now))
    await calls_for(5, retry)
    sick.calls = 0
    made = await calls_for(60, retry)
    assert 0 < sick.calls <= 0.02 * made
    sick.share = 0
    await calls_for(8, retry)
    sick.calls = 0
    made = await calls_for(10, retry)
    assert sick.calls == pytest.approx(made / 3, abs=1)


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
def test_answers_that_say_nothing_of_its_health_eject_no_instance(code: grpc.StatusCode) -> None:
    @fake_time
    async def run() -> None:
        endpoint = judged("a", failing(code))
        for _ in range(50):
            with contextlib.suppress(grpc.aio.AioRpcError):
                await endpoint(None)
        assert endpoint.ready

    run()


@fake_time
async def test_a_call_that_its_caller_cancels_ejects_no_instance() -> None:
    endpoint = judged("a", lambda _: asyncio.sleep(60))
    for _ in range(20):
        call = asyncio.create_task(endpoint(None))
        await asyncio.sleep(0.001)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    assert endpoint.ready


@fake_time
async def test_an_instance_that_hangs_is_ejected_by_the_attempts_that_it_cost_their_share() -> None:
    source = judged_endpoints(hung=lambda _: asyncio.sleep(3600), a=answering("book"), b=answering("book"))
    retry = Retry(RoundRobin(source), timeout=0.5)
    durations = []
    for _ in range(100):
        start = now()
        assert await retry(None) == "book"
        durations.append(now() - start)
    assert sum(duration > 0.1 for duration in durations) <= 6
    assert max(durations) <= 0.25
    assert not source.endpoints[0].ready


@pytest.mark.parametrize("balancer", [RoundRobin, Random])
def test_when_every_instance_is_ejected_calls_still_go_out_to_all(balancer: Any) -> None:
    @fake_time
    async def run() -> None:
        source = judged_endpoints(a=failing(UNAVAILABLE), b=failing(UNAVAILABLE), c=failing(UNAVAILABLE))
        for endpoint in source.endpoints:
            for _ in range(5):
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await endpoint(None)
        assert not any(endpoint.ready for endpoint in source.endpoints)
        picks = balancer(source)
        counts = Counter(picks.pick().instance for _ in range(300))
        assert min(counts[name] for name in "abc") > 60
        with pytest.raises(NoEndpointsError):
            picks.pick(exclude={"a", "b", "c"})
        assert picks.pick(exclude={"a", "b"}).instance == "c"

    run()


@fake_time
async def test_while_its_connection_is_down_an_instance_gets_no_call_and_no_probe() -> None:
    line = Line(up=False)
    retry = Retry(RoundRobin(judged_endpoints(dead=line, a=answering("book"))), timeout=10)
    await calls_for(30, retry)
    assert line.calls == 1
    line.up = True
    assert await calls_for(1, retry) == pytest.approx(2 * (line.calls - 1), abs=2)


@fake_time
async def test_a_connection_that_is_lost_between_two_calls_costs_no_call() -> None:
    line = Line(up=True)
    retry = Retry(RoundRobin(judged_endpoints(a=line, b=answering("book"))), timeout=10)
    await calls_for(1, retry)
    line.up = False
    before = line.calls
    assert before
    await calls_for(30, retry)
    assert line.calls == before


@fake_time
async def test_a_connection_that_is_lost_before_its_first_call_costs_no_call() -> None:
    stands, lost = Line(up=True), Line(up=False)
    retry = Retry(RoundRobin(judged_endpoints(a=stands, b=lost)), timeout=10)
    for _ in range(4):
        await asyncio.sleep(5)
        await retry(None)
    assert (stands.calls, lost.calls) == (4, 0)


@fake_time
async def test_the_sleep_window_doubles_while_probes_fail_and_starts_anew_after_a_good_spell() -> None:
    breaker = HystrixBreaker("a", request_volume=1, sleep_window=1, max_sleep_window=4, window=10, clock=now)

    async def fail() -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await breaker.call_async(failing(UNAVAILABLE), None)

    async def sleep_window() -> float:
        start = now()
        while not breaker.ready:  # noqa: ASYNC110 - what is measured is the time
            await asyncio.sleep(0.01)
        return now() - start

    windows = []
    for _ in range(4):
        await fail()
        windows.append(await sleep_window())
    assert windows == pytest.approx([1, 2, 4, 4], abs=0.02)
    await breaker.call_async(answering("book"), None)
    assert breaker.current_state == "closed"
    await asyncio.sleep(10)
    await fail()
    assert await sleep_window() == pytest.approx(1, abs=0.02)


@fake_time
async def test_it_closes_after_the_wanted_number_of_probes_one_at_a_time() -> None:
    breaker = HystrixBreaker("a", request_volume=1, sleep_window=1, probes=3, clock=now)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await breaker.call_async(failing(UNAVAILABLE), None)
    await asyncio.sleep(1)
    for passed in range(3):
        assert breaker.current_state == ("half-open" if passed else "open")
        probe = asyncio.create_task(breaker.call_async(lambda _: asyncio.sleep(0.1), None))
        await asyncio.sleep(0.05)
        assert not breaker.ready
        await probe
    assert breaker.current_state == "closed"


@fake_time
async def test_on_probation_one_failure_opens_it_again() -> None:
    breaker = HystrixBreaker("a", request_volume=4, error_percent=50, sleep_window=1, probation=3, clock=now)

    async def calls(*endpoints: Any) -> None:
        for endpoint in endpoints:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await breaker.call_async(endpoint, None)

    good, bad = answering("book"), failing(UNAVAILABLE)
    await calls(bad, bad, bad, bad)
    await asyncio.sleep(1)
    await calls(good, good, bad)
    assert breaker.current_state == "open"
    await asyncio.sleep(1)
    await calls(good, good, good, good, bad)
    assert breaker.current_state == "closed"


@pytest.mark.parametrize("rate", [20, 100])
def test_with_every_instance_failing_attempts_are_at_most_a_fifth_more_than_calls(rate: float) -> None:
    @fake_time
    async def run() -> None:
        coins = {name: Coin(1) for name in "abc"}
        budget = RetryBudget(clock=now)
        retry = Retry(RoundRobin(judged_endpoints(**coins)), timeout=10, backoff=Backoff(base=0, cap=0), budget=budget)

        async def calls(count: int) -> None:
            for _ in range(count):
                with pytest.raises(RetryError):
                    await retry(None)
                await asyncio.sleep(1 / rate)

        await calls(600)
        before = sum(coin.calls for coin in coins.values())
        await calls(1000)
        assert sum(coin.calls for coin in coins.values()) - before <= 1.2 * 1000 + 1

    run()


@fake_time
async def test_where_calls_are_few_one_retry_a_second_is_granted_in_any_case() -> None:
    budget = RetryBudget(reserve=0, clock=now)
    assert budget.withdraw()
    assert not budget.withdraw()
    await asyncio.sleep(1)
    assert budget.withdraw()
    assert not budget.withdraw()


@fake_time
async def test_a_spent_budget_is_said_in_the_error() -> None:
    budget = RetryBudget(reserve=0, min_per_second=0.001, clock=now)
    budget.withdraw()
    retry = Retry(RoundRobin(FixedEndpoints(a=failing(UNAVAILABLE))), budget=budget)
    with pytest.raises(RetryError, match="retry budget spent: #1 a UNAVAILABLE"):
        await retry(None)


@fake_time
async def test_an_ejection_is_noted_in_the_trace_of_the_call_that_led_to_it_and_logged_once() -> None:
    class OneInstance:
        def subscribe(self, observer: Any) -> Any:
            observer(InstanceChange(frozenset({"a"}), frozenset()))
            return lambda: None

    @asynccontextmanager
    async def factory(instance: str) -> Any:
        yield failing(UNAVAILABLE)

    with capture_logs() as logs:
        async with Endpointer(OneInstance(), factory) as endpointer:
            await endpointer.wait_endpoints()
            with TracerProvider().get_tracer("test").start_as_current_span("call") as span:
                for _ in range(20):
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await endpointer.endpoints[0](None)
    assert isinstance(span, ReadableSpan)
    assert [event.name for event in span.events] == ["instance ejected: a"]
    assert [entry["event"] for entry in logs] == ["instance ejected"]


@fake_time
async def test_an_instance_tells_its_state_and_until_when_it_is_ejected() -> None:
    sick, heard = True, list[str]()

    async def behaviour(_: Any) -> str:
        if sick:
            raise rpc_error(UNAVAILABLE)
        return "book"

    breaker = instance_breaker("a", clock=now)
    breaker.listen(lambda _, old, new: heard.append(f"{old} {new}"))
    endpoint = InstanceEndpoint("a", behaviour, breaker=breaker)
    assert (endpoint.state, endpoint.ejected_for) == ("ready", 0.0)
    for _ in range(3):
        with contextlib.suppress(grpc.aio.AioRpcError):
            await endpoint(None)
    assert (endpoint.state, endpoint.ejected_for) == ("ejected", 1.0)
    await asyncio.sleep(0.25)
    assert endpoint.ejected_for == pytest.approx(0.75)
    await asyncio.sleep(1)
    sick = False
    for _ in range(3):
        await endpoint(None)
        assert (endpoint.state, endpoint.ejected_for) == ("probation", 0.0)
    for _ in range(10):
        await endpoint(None)
    assert endpoint.state == "ready"
    assert heard == ["closed open", "open half-open", "half-open closed"]


@fake_time
async def test_an_instance_without_a_connection_is_connecting() -> None:
    line = Line(up=False)
    endpoint = InstanceEndpoint("a", line, breaker=instance_breaker("a", clock=now))
    assert endpoint.state == "connecting"
    line.up = True
    assert endpoint.state == "ready"


def test_a_budget_tells_its_tokens() -> None:
    budget = RetryBudget(reserve=5)
    assert (budget.tokens, budget.reserve) == (5, 5)
    assert budget.withdraw()
    budget.deposit()
    assert budget.tokens == pytest.approx(4.2)
