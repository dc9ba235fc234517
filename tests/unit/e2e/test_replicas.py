from typing import Any

import pytest

from tests.e2e.harness.replicas import Replica, early_arrivals, late_arrivals, untimely_departures


def replica(**changes: Any) -> Replica:
    facts: dict[str, Any] = {
        "instance": "10.0.0.1:50051",
        "pod": "server-a",
        "node": "worker",
        "registered": 9.0,
        "ready": 10.0,
        "first_call": 9.1,
        "last_call": 50.0,
        "leaving": 50.0,
        "key_gone": 50.15,
        "deregistered": 50.1,
        "stopped": 52.2,
        "exit_codes": (0,),
    }
    return Replica(**(facts | changes))


def test_a_replica_that_comes_and_goes_in_order_is_fine() -> None:
    assert late_arrivals([replica()], within=3) == []
    assert early_arrivals([replica()]) == []
    assert untimely_departures([replica()], drain=2) == []


def test_a_first_call_that_comes_late_or_never_is_noticed() -> None:
    assert late_arrivals([replica(first_call=13.5)], within=3) == [
        "server-a (10.0.0.1:50051): first call 3.50 s after Ready"
    ]
    assert "never" in late_arrivals([replica(first_call=None)], within=3)[0]
    assert late_arrivals([replica(ready=None, first_call=None)], within=3) == []


def test_ready_before_registered_is_noticed() -> None:
    assert "registered 1.00 s after Ready" in early_arrivals([replica(registered=11.0)])[0]
    assert "registered never after Ready" in early_arrivals([replica(registered=None)])[0]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key_gone": None}, "its key is still there"),
        ({"key_gone": 52.6}, "its key went 2.50 s after its log says so"),
        ({"deregistered": None}, "its log does not say that its key is gone"),
        ({"deregistered": 57.0}, "stopped 4.80 s before its key's end"),
        ({"stopped": 50.2}, "stopped 0.10 s after its key's end, not 2 s"),
        ({"stopped": None}, "does not say that it has stopped"),
        ({"last_call": 52.5}, "last call 2.40 s after its key's end"),
        ({"exit_codes": (137,)}, "exit status (137,)"),
    ],
)
def test_an_untimely_departure_is_noticed(changes: dict[str, Any], reason: str) -> None:
    assert reason in "; ".join(untimely_departures([replica(**changes)], drain=2))
