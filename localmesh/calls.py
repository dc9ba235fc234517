"""The calls of a client, as its log tells of them: one line a call."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from localmesh.lines import entry_in, logged_at

__all__ = ["Call", "Pick", "calls_in", "entries_in", "missing_numbers", "picks_in", "summaries_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call; times in seconds since 1970, duration in seconds; `host` is the client's IP address."""

    number: int
    client: str
    host: str
    outcome: str
    instance: str
    attempts: int
    trace_id: str
    start: float
    duration: float
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.outcome == "ok"

    @property
    def end(self) -> float:
        """When it was over."""
        return self.start + self.duration

    def __str__(self) -> str:
        """Name it so that it is found in the log."""
        return f"call {self.number} of {self.client} ({self.outcome}, {self.instance}, attempt {self.attempts})"


@dataclass(frozen=True, slots=True)
class Pick:
    """The balancer's choice for an attempt, in the order of the log."""

    time: float
    call: int
    instance: str


def entries_in(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The program's own log entries; what else a container prints is passed over."""
    return [entry for line in lines if (entry := entry_in(line)) and "timestamp" in entry]


def calls_in(lines: Iterable[str], client: str, host: str) -> list[Call]:
    """The calls of the log of one client, whose IP address is `host`, in its order."""
    calls = []
    for entry in entries_in(lines):
        if entry["event"] == "call":
            duration = float(entry["duration_ms"]) / 1000
            calls.append(
                Call(
                    number=entry["call"],
                    client=client,
                    host=host,
                    outcome=entry["outcome"],
                    instance=entry["instance"],
                    attempts=entry["attempts"],
                    trace_id=entry["trace_id"],
                    start=logged_at(entry) - duration,
                    duration=duration,
                    error=entry.get("error", ""),
                )
            )
    return calls


def picks_in(lines: Iterable[str]) -> list[Pick]:
    """The balancer's choices, in order."""
    return [
        Pick(logged_at(entry), entry["call"], entry["instance"])
        for entry in entries_in(lines)
        if entry["event"] == "picked"
    ]


def summaries_in(lines: Iterable[str]) -> list[dict[str, Any]]:
    """The closing lines of a client's runs."""
    return [entry for entry in entries_in(lines) if entry["event"] == "summary"]


def missing_numbers(calls: Iterable[Call]) -> list[int]:
    """Numbers below the highest that no call has: lines that were lost on the way here."""
    numbers = {call.number for call in calls}
    return sorted(set(range(1, max(numbers, default=0) + 1)) - numbers)
