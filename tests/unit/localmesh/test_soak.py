from itertools import pairwise
from typing import Any

import pytest

from localmesh.soak.faults import plan
from localmesh.soak.ledger import audit, broken_rules


def test_the_same_seed_gives_the_same_faults() -> None:
    assert plan(7, 600) == plan(7, 600)
    assert plan(7, 600) != plan(8, 600)


@pytest.mark.parametrize("seed", range(20))
def test_never_two_replicas_are_in_trouble_at_a_time_and_all_is_undone_before_the_end(seed: int) -> None:
    faults = plan(seed, 600, isolated=seed % 2 == 0)
    assert all(fault.at + fault.hold < 600 for fault in faults)
    on_replicas = [fault for fault in faults if fault.on_replica]
    assert all(first.at + first.hold < second.at for first, second in pairwise(on_replicas))
    assert all(fault.replica != 0 for fault in faults)


def picked(call: int) -> dict[str, Any]:
    return {"event": "picked", "call": call}


def ended(call: int, outcome: str = "ok", attempts: int = 1) -> dict[str, Any]:
    facts = {"event": "call", "call": call, "outcome": outcome, "attempts": attempts, "duration_ms": 1.0}
    return facts if outcome == "ok" else facts | {"error": "connection refused"}


def test_the_ledger_accounts_for_every_call() -> None:
    entries = [picked(1), ended(1), picked(2), picked(2), ended(2, attempts=2), picked(3), ended(3, "UNAVAILABLE")]
    ledger = audit(entries)
    assert (ledger.calls, ledger.lost, ledger.twice, ledger.retried) == (3, [], [], 1)
    assert [call["call"] for call in ledger.failed] == [3]


def test_calls_without_an_outcome_never_begun_or_ended_twice_are_found() -> None:
    ledger = audit([picked(1), picked(3), ended(3), ended(3)])
    assert (ledger.lost, ledger.twice) == ([1, 2], [3])


def test_a_run_without_a_fault_of_the_mesh_breaks_no_rule() -> None:
    assert broken_rules(audit([picked(1), ended(1)]), {"calls": 1, "failures": 0}) == []


def test_each_broken_rule_is_a_line() -> None:
    ledger = audit([picked(1), picked(2), ended(2), ended(2), picked(3), ended(3, "UNAVAILABLE")])
    assert broken_rules(ledger, {"calls": 2, "failures": 0}) == [
        "1 calls have no outcome: [1]",
        "1 calls have more than one outcome: [2]",
        "the client's summary says 2 calls, 0 failed",
        "call 3 failed: connection refused",
    ]


def test_a_client_that_was_killed_before_its_summary_hides_no_other_rule_that_broke() -> None:
    assert broken_rules(audit([picked(1)]), None) == [
        "1 calls have no outcome: [1]",
        "the client ended without its summary",
    ]
