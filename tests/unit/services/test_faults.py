"""Faults on demand, without a network: which are taken, which calls they hit, and what a page's actions ask for."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import book_client.faults as client_side
import pytest
from book_client.faults import STATUSES, FaultError, actions, asked, clearing, described
from book_server.faults import FaultSwitch, check
from faults_pb2 import ClearRequest, ExitRequest, Fault

from meshkit.server.departure import told_to_leave

SICK = Fault(percent=100, status=14)
# Where a context is not asked for.
NO_CONTEXT: Any = None


@pytest.mark.parametrize(
    "fault",
    [
        Fault(),
        SICK,
        Fault(percent=0.5, status=1),
        Fault(percent=1, status=16, delay_seconds=3600),
        Fault(percent=1, delay_seconds=0.001),
        Fault(percent=100, hang=True),
        Fault(percent=100, garbage=True, delay_seconds=1),
    ],
    ids=str,
)
def test_these_faults_are_taken(fault: Fault) -> None:
    check(fault)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(percent=-0.1, status=14), "percent from 0 to 100"),
        (Fault(percent=100.1, status=14), "percent from 0 to 100"),
        (Fault(percent=float("nan"), status=14), "percent from 0 to 100"),
        (Fault(percent=1, status=17), "status from 1 to 16"),
        (Fault(percent=1, status=-1), "status from 1 to 16"),
        (Fault(percent=1, delay_seconds=-1), "delay from 0 to 3600"),
        (Fault(percent=1, delay_seconds=3600.1), "delay from 0 to 3600"),
        (Fault(percent=1, delay_seconds=float("inf")), "delay from 0 to 3600"),
        (Fault(percent=1, delay_seconds=float("nan")), "delay from 0 to 3600"),
        (Fault(percent=1, hang=True, status=14), "at most one"),
        (Fault(percent=1, hang=True, garbage=True), "at most one"),
        (Fault(percent=1), "does nothing"),
    ],
    ids=str,
)
def test_these_faults_are_refused_and_the_reason_is_said(fault: Fault, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        check(fault)


async def test_a_fault_hits_its_share_of_the_calls_until_it_is_cleared() -> None:
    switch = FaultSwitch(random.Random(1))
    assert switch.hit() is None
    await switch.Set(Fault(percent=30, status=14), NO_CONTEXT)
    assert 250 < sum(switch.hit() is not None for _ in range(1000)) < 350
    await switch.Set(SICK, NO_CONTEXT)
    assert all(switch.hit() for _ in range(100))
    await switch.Clear(ClearRequest(), NO_CONTEXT)
    assert switch.hit() is None


async def test_a_percent_of_0_is_no_fault() -> None:
    switch = FaultSwitch()
    await switch.Set(SICK, NO_CONTEXT)
    assert await switch.Set(Fault(percent=0, status=14), NO_CONTEXT) == Fault()
    assert switch.hit() is None


async def test_a_call_that_hangs_goes_on_when_the_fault_is_cleared_and_ends_when_the_server_leaves() -> None:
    leaves = asyncio.Event()
    with told_to_leave(leaves):
        switch = FaultSwitch()
        await switch.Set(Fault(percent=100, hang=True), NO_CONTEXT)
        hanging = asyncio.ensure_future(switch.wait(None))
        await asyncio.sleep(0)
        await switch.Clear(ClearRequest(), NO_CONTEXT)
        assert await hanging is True
        leaves.set()
        assert await switch.wait(None) is False


async def test_an_exit_ends_the_process_with_its_code_after_the_answer() -> None:
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    switch = FaultSwitch(end=ended.set_result)
    await switch.Exit(ExitRequest(code=7), NO_CONTEXT)
    assert not ended.done()
    assert await ended == 7


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What instances were asked for."""
    requests: list[tuple[str, Any]] = []

    async def ask_nobody(instance: str, ask: Any, *, tls: object) -> Any:
        class Stub:
            def __getattr__(self, method: str) -> Any:
                async def answer(request: Any, *, timeout: float) -> Any:
                    requests.append((f"{instance} {method}", request))
                    assert 0 < timeout < 10
                    return request

                return answer

        return await ask(Stub())

    monkeypatch.setattr(client_side, "asked", ask_nobody)
    return requests


@pytest.mark.parametrize(
    ("name", "body", "request_", "text"),
    [
        ("sicken", {}, SICK, "a:1 answers 100% of its calls with UNAVAILABLE"),
        (
            "sicken",
            {"percent": 50, "status": "INTERNAL"},
            Fault(percent=50, status=13),
            "a:1 answers 50% of its calls with INTERNAL",
        ),
        (
            "slow",
            {"seconds": 0.2},
            Fault(percent=100, delay_seconds=0.2),
            "a:1 answers 100% of its calls, 0.2 s late",
        ),
        ("hang", {}, Fault(percent=100, hang=True), "a:1 lets 100% of its calls hang"),
        ("garble", {}, Fault(percent=100, garbage=True), "a:1 answers 100% of its calls with garbage"),
        ("kill", {}, ExitRequest(code=1), "a:1 ends, as by a crash"),
        ("heal", {}, ClearRequest(), "a:1 is well again"),
    ],
)
async def test_an_action_asks_its_instance_and_says_what_happens(
    told: list[tuple[str, Any]], name: str, body: Mapping[str, Any], request_: Any, text: str
) -> None:
    assert await actions(lambda: ["a:1", "b:1"])[name]({"instance": "a:1", **body}) == text
    method = {"kill": "Exit", "heal": "Clear"}.get(name, "Set")
    assert told == [(f"a:1 {method}", request_)]


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        *(
            (name, {}, r"instance that is there \(a:1\)")
            for name in ("sicken", "slow", "hang", "garble", "kill", "heal")
        ),
        ("heal", {"instance": "b:1"}, r"instance that is there \(a:1\)"),
        ("heal", {"instance": ["a:1"]}, r"instance that is there \(a:1\)"),
        ("sicken", {"instance": "a:1", "percent": 0}, "percent above 0"),
        ("sicken", {"instance": "a:1", "percent": 101}, "percent above 0"),
        ("sicken", {"instance": "a:1", "percent": "50"}, "percent above 0"),
        ("sicken", {"instance": "a:1", "percent": True}, "percent above 0"),
        ("sicken", {"instance": "a:1", "percent": float("nan")}, "percent above 0"),
        ("sicken", {"instance": "a:1", "status": "OK"}, "status out of CANCELLED"),
        ("sicken", {"instance": "a:1", "status": 14}, "status out of CANCELLED"),
        ("sicken", {"instance": "a:1", "status": ["OK"]}, "status out of CANCELLED"),
        ("slow", {"instance": "a:1", "seconds": -1}, "seconds above 0"),
        ("slow", {"instance": "a:1", "seconds": None}, "seconds above 0"),
        ("slow", {"instance": "a:1", "seconds": 3601}, "seconds above 0"),
    ],
)
async def test_an_action_without_a_good_body_asks_nobody(
    told: list[tuple[str, Any]], name: str, body: Mapping[str, Any], expected: str
) -> None:
    with pytest.raises(ValueError, match=expected):
        await actions(lambda: ["a:1"])[name](body)
    assert told == []


async def test_an_instance_that_cannot_be_reached_is_said() -> None:
    with pytest.raises(FaultError, match=r"127\.0\.0\.1:1: UNAVAILABLE"):
        await asked("127.0.0.1:1", clearing())


def test_every_status_but_ok_can_be_asked_for() -> None:
    assert sorted(STATUSES.values()) == list(range(1, 17))
    assert (
        described(Fault(percent=5, status=5, delay_seconds=0.5)) == "answers 5% of its calls with NOT_FOUND, 0.5 s late"
    )
    assert described(Fault()) == "no fault"
