"""The mutants break what they mean to, and are caught only for the reason expected. Needs no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.mutations.catch import FOLDER, MUTANTS, Catch, Mutant, UnexpectedFailureError, catch_in

FAILED = """<testsuites><testsuite><testcase name="test_one">
<failure message="3 are broken:&#10;[+1 more lines]">    assert whole
E     call 7: bookservice/getbookinfo CLIENT has 0 SERVER spans</failure>
</testcase></testsuite></testsuites>"""
BROKE = {
    "without_propagation": """
from opentelemetry import trace
from meshkit.client.spans import _ClientSpans
context = trace.SpanContext(1, 1, is_remote=False, trace_flags=trace.TraceFlags(1))
print(_ClientSpans(trace.NoOpTracer(), "10.0.0.1:50051").headers_of(trace.NonRecordingSpan(context)))
""",
    "without_drain": "import meshkit; print(meshkit.serve.__name__)",
    "without_deregistration": "from meshkit import Registrar; print(Registrar.deregister.__module__)",
    "without_remote_endpoint": """
from opentelemetry import trace
from meshkit.client.spans import _ClientSpans
print(_ClientSpans(trace.NoOpTracer(), "10.0.0.1:50051")._server)
""",
}
SEEN = {
    "without_propagation": "()",
    "without_drain": "at_once",
    "without_deregistration": "sitecustomize",
    "without_remote_endpoint": "{}",
}


def test_every_mutant_is_in_the_table() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.py")) == sorted(mutant.name for mutant in MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_breaks_what_it_means_to(mutant: Mutant, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(mutant.file.read_text())
    command = [sys.executable, "-c", BROKE[mutant.name]]
    done = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == SEEN[mutant.name]
    whole = subprocess.run(command, capture_output=True, text=True, check=False)
    assert whole.stdout.strip() != SEEN[mutant.name], "this would be seen without the mutant, too"


def test_a_failure_for_the_reason_is_a_catch(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(FAILED)
    caught = catch_in(report, "CLIENT has 0 SERVER")
    assert caught == Catch("test_one", "call 7: bookservice/getbookinfo CLIENT has 0 SERVER spans")


def test_a_failure_for_another_reason_is_no_catch_but_told(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(FAILED)
    with pytest.raises(UnexpectedFailureError, match="another reason: 3 are broken"):
        catch_in(report, "remote endpoint")


def test_a_mutant_on_which_all_tests_pass_survives(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text('<testsuites><testsuite><testcase name="test_one"/></testsuite></testsuites>')
    assert catch_in(report, "") is None


def test_no_test_at_all_is_an_error(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text("<testsuites/>")
    with pytest.raises(ValueError, match="no test ran"):
        catch_in(report, "")
    with pytest.raises(OSError, match="absent"):
        catch_in(tmp_path / "absent.xml", "")
