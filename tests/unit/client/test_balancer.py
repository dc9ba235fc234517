import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from meshkit import Retry, RoundRobin
from meshkit.client import Random
from meshkit.errors import NoEndpointsError
from tests.support.fake_time import fake_time
from tests.support.fakes import FixedEndpoints, answering


@fake_time
async def test_3000_concurrent_calls_over_3_instances_give_each_1000() -> None:
    taken: Counter[str] = Counter()

    def counting(name: str) -> Callable[[Any], Any]:
        async def endpoint(_: Any) -> None:
            taken[name] += 1
            await asyncio.sleep(random.uniform(0, 0.1))

        return endpoint

    call = Retry(RoundRobin(FixedEndpoints(**{name: counting(name) for name in "abc"})), timeout=10)
    await asyncio.gather(*(call(None) for _ in range(3000)))
    assert all(abs(taken[name] - 1000) <= 1 for name in "abc"), taken


def test_an_excluded_instance_is_never_picked() -> None:
    balancer = RoundRobin(FixedEndpoints(a=answering(1), b=answering(2), c=answering(3)))
    assert {balancer.pick(exclude={"b"}).instance for _ in range(30)} == {"a", "c"}


@pytest.mark.parametrize("balancer", [RoundRobin, Random])
def test_without_endpoints_it_says_so(balancer: Any) -> None:
    with pytest.raises(NoEndpointsError, match="no instance of the service is known") as caught:
        balancer(FixedEndpoints()).pick()
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(NoEndpointsError, match="besides those already tried"):
        balancer(FixedEndpoints(a=answering(1))).pick(exclude={"a"})


def test_random_picks_all_of_them() -> None:
    balancer = Random(FixedEndpoints(a=answering(1), b=answering(2)), random.Random(1))
    counts = Counter(balancer.pick().instance for _ in range(1000))
    assert min(counts.values()) > 400
