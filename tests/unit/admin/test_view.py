"""What the view makes of what it sees, on a moved clock."""

from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from meshkit.admin.last_calls import LastCalls
from meshkit.admin.view import MeshView, readiness
from meshkit.metrics import ClientMetrics, ClientSources, Sources
from meshkit.middleware import HystrixBreaker

A, B = "10.0.0.1:50051", "10.0.0.2:50051"


@dataclass
class Instance:
    instance: str
    state: str = "ready"
    in_flight: int = 0
    ejected: bool = False
    ejected_for: float = 0.0


@dataclass
class Instances:
    endpoints: list[Instance] = field(default_factory=list)
    leaving: list[Instance] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    ejections: dict[str, int] = field(default_factory=dict)

    @property
    def known(self) -> list[str]:
        return [*self.waiting, *(each.instance for each in self.endpoints)]


@dataclass
class Away:
    away_since: float | None = None


class World:
    """A client with instances that the test changes."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.instances = Instances()
        self.metrics = ClientMetrics("etcd:///services/book/")
        self.breaker = HystrixBreaker("book")
        self.etcd = Away()
        client: Any = ClientSources(metrics=self.metrics, endpoints=self.instances, breaker=self.breaker)
        self.sources = Sources("client", clients=[client], etcd=self.etcd)
        self.calls = LastCalls()
        self.view = MeshView(self.sources, self.calls, clock=lambda: self.now)

    def looks(self) -> list[tuple[str, str | None]]:
        self.now += 0.25
        return [(mark["kind"], mark["instance"]) for mark in self.view.look()]

    def told(self) -> dict[str, Any]:
        return {each["address"]: each["state"] for each in self.view.tell()["instances"]}

    def attempt(self, instance: str, seconds: float, code: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        calls = self.metrics.attempts_at(instance, "Book/Get")
        calls.end(code, calls.begin() - seconds)


@pytest.fixture
def world() -> World:
    return World()


def test_an_instance_comes_goes_and_is_told_of_for_30_seconds_more(world: World) -> None:
    world.instances.waiting = [A]
    assert world.looks() == [("came", A)]
    assert world.told() == {A: "connecting"}
    world.instances.waiting, world.instances.endpoints = [], [Instance(A)]
    assert world.looks() == []
    assert world.told() == {A: "ready"}
    world.instances.endpoints, world.instances.leaving = [], [Instance(A, "ready", in_flight=2)]
    assert world.looks() == [("went", A)]
    assert world.told() == {A: "leaving"}
    world.instances.leaving = []
    assert world.looks() == []
    assert world.told() == {A: "gone"}
    world.now += 29
    assert world.looks() == []
    assert world.told() == {A: "gone"}
    world.now += 1
    assert world.looks() == []
    assert world.told() == {}


def test_one_that_is_killed_and_comes_back_has_both_marks(world: World) -> None:
    world.instances.endpoints = [Instance(A)]
    world.looks()
    world.instances.endpoints = []
    assert world.looks() == [("went", A)]
    world.instances.endpoints = [Instance(A)]
    assert world.looks() == [("came", A)]


def test_an_ejection_ends_when_it_is_trusted_again_not_at_its_first_probe(world: World) -> None:
    sick = Instance(A)
    world.instances.endpoints = [sick, Instance(B)]
    world.looks()
    sick.state, sick.ejected, sick.ejected_for = "ejected", True, 1.0
    assert world.looks() == [("ejected", A)]
    state = world.view.tell()["instances"][0]
    assert (state["state"], state["until"]) == ("ejected", world.now + 1)
    for during in ("probation", "ejected", "probation"):
        sick.state = during
        assert world.looks() == []
    sick.state, sick.ejected, sick.ejected_for = "ready", False, 0.0
    assert world.looks() == [("back", A)]


def test_calls_are_told_since_the_last_telling_and_percentiles_of_ten_seconds(world: World) -> None:
    with world.metrics.following(A):
        world.instances.endpoints = [Instance(A)]
        world.looks()
        world.view.tell()
        for _ in range(9):
            world.attempt(A, 0.0018)
        world.attempt(A, 0.9, grpc.StatusCode.UNAVAILABLE)
        world.now += 1
        (told,) = world.view.tell()["instances"]
        assert (told["calls"], told["failed"]) == (10, 1)
        assert told["p50"] == pytest.approx(0.0018, rel=0.3)
        assert told["p99"] == pytest.approx(0.9, rel=0.3)
        for _ in range(10):
            world.now += 1
            (told,) = world.view.tell()["instances"]
        assert (told["calls"], told["failed"]) == (0, 0)
        assert told["p50"] is None
        assert told["p99"] is None


def test_without_traffic_there_is_no_percentile_and_no_division(world: World) -> None:
    state = world.view.tell()
    assert (state["calls"], state["failed"], state["retries"]) == (0, 0, 0)
    assert state["p50"] is None
    assert state["p99"] is None
    assert state["instances"] == []


def test_breaker_and_etcd_have_a_mark_at_each_turn(world: World) -> None:
    assert world.looks() == []
    world.breaker.open()
    world.etcd.away_since = world.now
    assert world.looks() == [("breaker-open", None), ("etcd-away", None)]
    assert world.view.tell()["breaker"]["state"] == "open"
    world.breaker.half_open()
    assert world.looks() == []
    world.breaker.close()
    world.etcd.away_since = None
    assert world.looks() == [("breaker-closed", None), ("etcd-back", None)]


def test_the_history_is_of_five_minutes(world: World) -> None:
    for _ in range(400):
        world.now += 1
        world.view.tell()
    assert len(world.view.history) == 301
    assert world.view.history[0]["t"] == world.now - 300


def test_ready_is_a_client_with_an_instance_and_a_server_that_is_registered(world: World) -> None:
    assert readiness(world.sources)[0] is False
    world.instances.endpoints = [Instance(A, "ejected")]
    ready, reason = readiness(world.sources)
    assert not ready
    assert reason == "no instance of etcd:///services/book/ is ready, 1 known"
    world.instances.endpoints.append(Instance(B))
    assert readiness(world.sources) == (True, "ready")
    registration: Any = type("Registration", (), {"registered": False, "renewals": 0})()
    server = Sources("server", registration=registration)
    assert readiness(server) == (False, "not registered")
    registration.registered = True
    assert readiness(server) == (True, "ready")
    assert readiness(Sources("neither")) == (False, "starting")
