import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from meshkit import Endpointer, Retry, RoundRobin
from meshkit.backoff import Backoff
from meshkit.discovery import InstanceChange
from meshkit.errors import CutOffError
from tests.support.fake_time import fake_time, now
from tests.support.fakes import answering


class Instances:
    """An InstanceSource that the test speaks for."""

    def subscribe(self, observer: Callable[[InstanceChange], None]) -> Callable[[], None]:
        self.tell = observer
        return lambda: None

    def change(self, added: str = "", removed: str = "") -> None:
        self.tell(InstanceChange(frozenset(added.split()), frozenset(removed.split())))


def recording_factory(log: list[str], work: float = 0.0) -> Any:
    @asynccontextmanager
    async def factory(instance: str) -> Any:
        log.append(f"open {instance}")

        async def endpoint(_: Any) -> str:
            await asyncio.sleep(work)
            return instance

        yield endpoint
        log.append(f"close {instance}")

    return factory


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@fake_time
async def test_an_instances_channel_stays_across_updates_and_closes_once_its_calls_have_ended() -> None:
    instances, log = Instances(), list[str]()
    async with Endpointer(instances, recording_factory(log, work=2)) as endpointer:
        instances.change(added="a b")
        await endpointer.wait_endpoints()
        call = asyncio.create_task(RoundRobin(endpointer).pick(exclude={"b"})(None))
        await asyncio.sleep(1)
        instances.change(added="c", removed="a")
        await settle()
        assert {endpoint.instance for endpoint in endpointer.endpoints} == {"b", "c"}
        assert "close a" not in log
        assert await call == "a"
        await settle()
        assert log == [*log[:2], "open c", "close a"]


@asynccontextmanager
async def channel_to(instance: str) -> Any:
    """As grpc.aio's: closing it ends its calls as if their callers had cancelled them. Instance a never answers."""
    under_way: list[asyncio.Future[str]] = []

    async def endpoint(_: Any) -> str:
        if instance != "a":
            return instance
        under_way.append(asyncio.get_running_loop().create_future())
        return await under_way[-1]

    yield endpoint
    for answer in under_way:
        answer.cancel()


@fake_time
async def test_a_call_that_the_drain_cuts_off_is_made_again_elsewhere() -> None:
    instances = Instances()
    async with Endpointer(instances, channel_to, drain=1) as endpointer:
        instances.change(added="a")
        await endpointer.wait_endpoints()
        call = asyncio.create_task(Retry(RoundRobin(endpointer), timeout=60)(None))
        await settle()
        instances.change(added="b", removed="a")
        assert await call == "b"


@fake_time
async def test_a_call_that_is_cut_off_is_unavailable_and_one_that_its_caller_cancels_is_cancelled() -> None:
    instances = Instances()
    async with Endpointer(instances, channel_to, drain=1) as endpointer:
        instances.change(added="a")
        await endpointer.wait_endpoints()
        cut_off, unwanted = (asyncio.create_task(endpointer.endpoints[0](None)) for _ in range(2))
        await settle()
        unwanted.cancel()
        instances.change(removed="a")
        with pytest.raises(CutOffError, match="cut off: the channel was closed") as caught:
            await cut_off
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert unwanted.cancelled()


@fake_time
async def test_an_instance_that_joins_others_is_called_once_its_connection_stands() -> None:
    class Line:
        def __init__(self, instance: str) -> None:
            self.instance = instance

        async def __call__(self, _: Any) -> str:
            return self.instance

        def connected(self) -> bool:
            return self.instance in reached

        def reconnect(self) -> None:
            raise AssertionError("nothing has timed out")

    @asynccontextmanager
    async def factory(instance: str) -> Any:
        yield Line(instance)

    instances, reached = Instances(), set[str]()
    async with Endpointer(instances, factory) as endpointer:
        picks = RoundRobin(endpointer)
        instances.change(added="a b")
        await endpointer.wait_endpoints()
        await settle()
        assert {picks.pick().instance for _ in range(6)} == {"a", "b"}
        instances.change(added="c")
        await settle()
        assert {picks.pick().instance for _ in range(6)} == {"a", "b"}
        reached.add("c")
        assert {picks.pick().instance for _ in range(6)} == {"a", "b", "c"}
        # Nobody else is left.
        instances.change(added="d", removed="a b c")
        await settle()
        assert picks.pick().instance == "d"


@fake_time
async def test_a_factory_that_fails_is_tried_again_and_delays_no_other() -> None:
    instances, tries = Instances(), list[float]()

    @asynccontextmanager
    async def factory(instance: str) -> Any:
        if instance == "broken":
            tries.append(now())
            if len(tries) < 3:
                raise OSError("no route")
        yield answering(instance)

    async with Endpointer(instances, factory, backoff=Backoff(base=1, cap=1, uniform=lambda: 1.0)) as endpointer:
        instances.change(added="broken fine")
        await settle()
        assert [endpoint.instance for endpoint in endpointer.endpoints] == ["fine"]
        await asyncio.sleep(2.5)
        assert {endpoint.instance for endpoint in endpointer.endpoints} == {"fine", "broken"}
    assert tries == pytest.approx([tries[0], tries[0] + 1, tries[0] + 2])


@fake_time
async def test_renewed_endpoints_take_over_once_made_and_the_old_ones_close_once_idle() -> None:
    instances, log = Instances(), list[str]()
    async with Endpointer(instances, recording_factory(log, work=2)) as endpointer:
        instances.change(added="a b")
        await endpointer.wait_endpoints()
        old = list(endpointer.endpoints)
        call = asyncio.create_task(old[0](None))
        await settle()
        endpointer.renew()
        assert endpointer.endpoints == old
        await settle()
        assert {endpoint.instance for endpoint in endpointer.endpoints} == {"a", "b"}
        assert not set(endpointer.endpoints) & set(old)
        assert [entry for entry in log if entry.startswith("close")] == [f"close {old[1].instance}"]
        await call
        await settle()
        assert sum(entry.startswith("close") for entry in log) == 2
        endpointer.renew()
        instances.change(removed="a")
        await settle()
        assert [endpoint.instance for endpoint in endpointer.endpoints] == ["b"]


@fake_time
async def test_instances_are_known_from_the_first_and_leaving_until_their_calls_have_ended() -> None:
    instances, log = Instances(), list[str]()
    async with Endpointer(instances, recording_factory(log, work=2)) as endpointer:
        instances.change(added="a b")
        assert (sorted(endpointer.known), endpointer.endpoints) == (["a", "b"], [])
        await endpointer.wait_endpoints()
        call = asyncio.create_task(RoundRobin(endpointer).pick(exclude={"b"})(None))
        await asyncio.sleep(1)
        instances.change(removed="a")
        await settle()
        assert endpointer.known == ["b"]
        assert [(endpoint.instance, endpoint.in_flight) for endpoint in endpointer.leaving] == [("a", 1)]
        await call
        await settle()
        assert endpointer.leaving == []
