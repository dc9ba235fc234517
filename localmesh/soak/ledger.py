"""What became of every call of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Ledger", "audit", "broken_rules"]


@dataclass(slots=True)
class Ledger:
    """What became of every call."""

    calls: int = 0
    lost: list[int] = field(default_factory=list)
    twice: list[int] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    retried: int = 0
    milliseconds: list[float] = field(default_factory=list)


def audit(entries: Sequence[dict[str, Any]]) -> Ledger:
    """Account for every call that the client's log says was begun; `lost` ones have no outcome."""
    outcomes = Counter(entry["call"] for entry in entries if entry["event"] == "call")
    begun = {entry["call"] for entry in entries if entry["event"] == "picked"} | outcomes.keys()
    ledger = Ledger(calls=max(begun, default=0))
    ledger.lost = [number for number in range(1, ledger.calls + 1) if not outcomes[number]]
    ledger.twice = [number for number, count in outcomes.items() if count > 1]
    for entry in entries:
        if entry["event"] == "call":
            ledger.retried += entry["attempts"] > 1
            ledger.milliseconds.append(entry["duration_ms"])
            if entry["outcome"] != "ok":
                ledger.failed.append(entry)
    ledger.milliseconds.sort()
    return ledger


def broken_rules(ledger: Ledger, summary: dict[str, Any] | None) -> list[str]:
    """What is wrong with the calls, a line a rule; `summary` is what the client says of them at its end, if it did."""
    broken = []
    if ledger.lost:
        broken.append(f"{len(ledger.lost)} calls have no outcome: {ledger.lost[:10]}")
    if ledger.twice:
        broken.append(f"{len(ledger.twice)} calls have more than one outcome: {ledger.twice[:10]}")
    if summary is None:
        broken.append("the client ended without its summary")
    elif (summary["calls"], summary["failures"]) != (ledger.calls, len(ledger.failed)):
        broken.append(f"the client's summary says {summary['calls']} calls, {summary['failures']} failed")
    return broken + [f"call {call['call']} failed: {call['error'][:400]}" for call in ledger.failed[:5]]
