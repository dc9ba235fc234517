"""Balancers that look at load."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from meshkit.client import InstanceEndpoint, LeastRequest, PeakEwma, instance_breaker
from meshkit.errors import NoEndpointsError
from tests.support.fake_time import fake_time, now
from tests.support.fakes import FixedEndpoints, answering, failing, rpc_error

SEED = 2016
BALANCERS: list[Callable[[Any, random.Random], Any]] = [LeastRequest, PeakEwma]
both = pytest.mark.parametrize("balancer", BALANCERS, ids=lambda balancer: balancer.__name__)


def many(number: int, endpoint: Any = None) -> FixedEndpoints:
    source = FixedEndpoints()
    source.endpoints = [InstanceEndpoint(f"i{n}", endpoint or answering(n)) for n in range(number)]
    return source


@pytest.mark.parametrize("number", [3, 10, 11, 500])
async def test_idle_instances_all_get_calls(number: int) -> None:
    source = many(number)
    picks: LeastRequest[Any, Any] = LeastRequest(source, random.Random(SEED))
    for _ in range(number * 20):
        await picks.pick()(None)
    counted = Counter(picks.pick().instance for _ in range(number * 50))
    assert len(counted) == number


@both
@pytest.mark.parametrize("number", [3, 500])
async def test_what_is_excluded_or_not_ready_is_not_picked(balancer: Any, number: int) -> None:
    source = many(number)
    sick = instance_breaker("sick")
    sick.open()
    source.endpoints[0] = InstanceEndpoint("sick", answering(0), breaker=sick)
    picks = balancer(source, random.Random(SEED))
    others = {endpoint.instance for endpoint in source.endpoints[1:-1]}
    assert {picks.pick(exclude=["i2"] if number == 3 else []).instance for _ in range(200)} <= others | {"i499"}
    # Rather the sick one than none.
    assert picks.pick(exclude={f"i{n}" for n in range(number)}).instance == "sick"
    with pytest.raises(NoEndpointsError):
        picks.pick(exclude={"sick", *(f"i{n}" for n in range(number))})
    with pytest.raises(NoEndpointsError):
        balancer(many(0), random.Random(SEED)).pick()


async def test_of_few_the_one_with_the_fewest_calls_in_flight_is_picked() -> None:
    source = many(10)
    for endpoint in source.endpoints:
        await endpoint(None)
        endpoint.in_flight = 5
    source.endpoints[7].in_flight = 0
    assert {LeastRequest(source, random.Random(n)).pick().instance for n in range(20)} == {"i7"}


@fake_time
async def test_the_slow_one_gets_few_calls_and_is_tried_again_once_it_is_quick() -> None:
    slowness = {"slow": 1.0, "quick": 0.01, "other": 0.01}

    def taking(name: str) -> Any:
        async def endpoint(_: Any) -> None:
            await asyncio.sleep(slowness[name])

        return endpoint

    source = FixedEndpoints(**{name: taking(name) for name in slowness})
    balancer: PeakEwma[Any, Any] = PeakEwma(source, random.Random(SEED), clock=now)

    async def share(calls: int) -> float:
        counts: Counter[str] = Counter()
        for _ in range(calls):
            endpoint = balancer.pick()
            counts[endpoint.instance] += 1
            await endpoint(None)
        return counts["slow"] / calls

    assert await share(500) < 0.05
    slowness["slow"] = 0.005
    await asyncio.sleep(60)
    assert await share(300) > 1 / 3


@fake_time
async def test_one_that_refuses_fast_is_not_favoured() -> None:
    async def slow(_: Any) -> str:
        await asyncio.sleep(0.02)
        return "answer"

    async def refusing(_: Any) -> str:
        await asyncio.sleep(0.001)
        raise rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED)

    source = FixedEndpoints(refuses=refusing, a=slow, b=slow)
    balancer: PeakEwma[Any, Any] = PeakEwma(source, random.Random(SEED), clock=now)
    counts: Counter[str] = Counter()
    for _ in range(1000):
        endpoint = balancer.pick()
        counts[endpoint.instance] += 1
        await asyncio.gather(endpoint(None), return_exceptions=True)
    assert counts["refuses"] < 1000 / 3 / 4


async def test_a_cancelled_call_tells_the_balancer_nothing_and_a_failed_one_its_error() -> None:
    told: list[Any] = []
    endpoint = InstanceEndpoint("a", failing(grpc.StatusCode.UNKNOWN))
    endpoint.watch = lambda seconds, error: told.append(error)
    await asyncio.gather(endpoint(None), return_exceptions=True)
    assert [error.code() for error in told] == [grpc.StatusCode.UNKNOWN]
    waiting: InstanceEndpoint[Any, Any] = InstanceEndpoint("b", lambda _: asyncio.sleep(3600))
    waiting.watch = endpoint.watch
    task = asyncio.create_task(waiting(None))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(told) == 1
