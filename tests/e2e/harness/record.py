"""What a test has seen, kept for the report: `.run/e2e/<test>/record.json`."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from localmesh.calls import Call
from localmesh.oracle import Verdict
from tests.e2e.harness.replicas import Replica

__all__ = ["Figure", "Mark", "Record"]

Kind = Literal["change", "fault", "recovery"]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something done to the mesh at a time (seconds since 1970); `until`: a span of time, not a moment."""

    time: float
    text: str
    kind: Kind = "change"
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a test has measured, and the bound that it was held against."""

    name: str
    value: str
    bound: str = ""


@dataclass(slots=True)
class Record:
    """One test's facts."""

    name: str
    began: float
    folder: Path
    marks: list[Mark] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    calls: Sequence[Call] = ()
    replicas: Sequence[Replica] = ()
    verdict: Verdict | None = None

    def figure(self, name: str, value: str, bound: str = "") -> None:
        """Keep a number."""
        self.figures.append(Figure(name, value, bound))

    def save(self) -> None:
        """Write it down."""
        self.folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {
            "name": self.name,
            "began": self.began,
            "marks": [dataclasses.asdict(mark) for mark in self.marks],
            "figures": [dataclasses.asdict(figure) for figure in self.figures],
            "replicas": [dataclasses.asdict(replica) for replica in self.replicas],
            "calls": [
                [call.start, round(call.duration, 6), call.instance, call.outcome, call.attempts] for call in self.calls
            ],
            "verdict": None
            if self.verdict is None
            else {
                "calls": self.verdict.calls,
                "whole": self.verdict.whole,
                "excused": self.verdict.excused,
                "spans": self.verdict.spans,
                "broken": [str(broken) for broken in self.verdict.broken[:50]],
            },
        }
        (self.folder / "record.json").write_text(json.dumps(facts, ensure_ascii=False))
