"""Mutants, and what it takes to catch one: a test that fails for the reason that is expected of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

__all__ = ["MUTANTS", "Catch", "Mutant", "UnexpectedFailureError", "catch_in"]

FOLDER = Path(__file__).parent / "mutants"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken promise.

    Args:
        name: of its file in mutants/.
        broken: what it does not do, for the table.
        tests: of tests/e2e, as pytest's node ids; one of them has to fail.
        reason: a regular expression that has to be in that test's message, so that no other failure counts.
    """

    name: str
    broken: str
    tests: tuple[str, ...]
    reason: str

    @property
    def file(self) -> Path:
        """The code that breaks it."""
        return FOLDER / f"{self.name}.py"

    @property
    def tag(self) -> str:
        """Of its images."""
        return "mutant-" + self.name.replace("_", "-")


SCALE = "tests/e2e/test_replicas_come_and_go.py::test_scale_2_5_1_loses_no_call_and_no_span"

MUTANTS = (
    Mutant("without_propagation", "header propagation", (SCALE,), r"CLIENT has 0 SERVER spans"),
    Mutant(
        "without_deregistration", "deregistration", (SCALE,), r"attempt [23]\)|key's end|its key (is still there|went)"
    ),
    Mutant("without_drain", "drain", (SCALE,), r"attempt [23]\)|stopped \d+\.\d+ s \w+ its key's end, not"),
    Mutant("without_remote_endpoint", "the remote endpoint", (SCALE,), r"remote endpoint is (nowhere|nothing|none)"),
)


class UnexpectedFailureError(ValueError):
    """A test failed for another reason than the mutant's, so that nothing is known."""


@dataclass(frozen=True, slots=True)
class Catch:
    """The test that caught a mutant, and the line that says why."""

    test: str
    line: str


def catch_in(report: Path, reason: str) -> Catch | None:
    """The first failure in a JUnit report that is for the reason; None: all tests passed.

    Raises:
        OSError: there is no report.
        UnexpectedFailureError: there are failures, but for other reasons.
        ValueError: it tells of no test.
    """
    cases = list(ET.parse(report).iter("testcase"))
    if not cases:
        raise ValueError(f"{report}: no test ran")
    others = []
    for case in cases:
        for failure in (*case.findall("failure"), *case.findall("error")):
            # What the assertion said, which the message cuts short; the rest of the text is the test's code.
            said = [line[1:].strip() for line in (failure.text or "").splitlines() if line.startswith("E ")]
            for line in (*(failure.get("message") or "").splitlines(), *said):
                if re.search(reason, line):
                    return Catch(case.get("name") or "?", " ".join(line.split()))
            others.append(failure.get("message") or "?")
    if others:
        raise UnexpectedFailureError(f"failed for another reason: {' '.join(others[0].split())[:300]}")
    return None
