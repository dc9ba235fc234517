"""Programs that are run, and signals while they run: none outlives what asked for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolchain.command import run
from toolchain.interruption import Interrupted, Interruptions, deferred

DEADLINE = 30.0


def test_both_streams_come_line_by_line_and_the_status_is_told() -> None:
    lines: list[str] = []
    assert run(["sh", "-c", "echo out; echo err >&2; exit 3"], lines.append) == 3
    assert sorted(lines) == ["err", "out"]


def test_a_program_reads_nothing_from_the_terminal() -> None:
    assert run(["cat"], None) == 0


def test_one_that_takes_too_long_is_ended_with_what_it_started() -> None:
    lines: list[str] = []
    with pytest.raises(TimeoutError, match=r"not done after 0\.5 s"):
        run(["sh", "-c", "sleep 1000 & echo $!; wait"], lines.append, timeout=0.5)
    assert gone(int(lines[0]))


def test_an_exception_ends_the_program_and_what_it_started_though_that_is_deaf() -> None:
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; sleep 1000'"], stop, grace=0.2)
    assert gone(int(lines[0]))


def test_what_a_program_started_may_come_to_its_own_end(tmp_path: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    finishing = f"echo started; sleep 0.5; touch {tmp_path / 'finished'}"
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", f"sh -c '{finishing}' & wait"], stop, end_alone=True, grace=DEADLINE)
    assert (tmp_path / "finished").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_runs_then_what_undoes_it_runs_to_its_end(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys, time
from contextlib import ExitStack
from pathlib import Path
from toolchain.command import run
from toolchain.interruption import Interrupted, Interruptions

def undo():
    print("undoing", flush=True)
    run([sys.executable, "-c", "import time; time.sleep(0.5)"], None)
    Path({str(tmp_path / "undone")!r}).touch()

try:
    with Interruptions() as interruptions, ExitStack() as stack:
        with interruptions.armed():
            stack.callback(undo)
            run(["sh", "-c", "echo $$; exec sleep 1000"], lambda line: print(line, flush=True))
except Interrupted as interrupted:
    sys.exit(interrupted.status)
""")
    with subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as program:
        assert program.stdout is not None
        sleeping = int(program.stdout.readline())
        program.send_signal(number)
        assert program.stdout.readline() == "undoing\n"
        program.send_signal(number)
        _, errors = program.communicate(timeout=DEADLINE)
    assert gone(sleeping)
    assert (tmp_path / "undone").exists()
    assert program.returncode == 128 + number
    assert "cleaning up already" in errors


def test_a_signal_in_a_deferred_step_comes_after_it() -> None:
    done: list[str] = []

    def work() -> None:
        with deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("the step")
        done.append("what comes after it")

    with Interruptions() as interruptions, pytest.raises(Interrupted, match="SIGTERM"), interruptions.armed():
        work()
    assert done == ["the step"]


def test_a_signal_while_nothing_is_armed_comes_with_the_next_armed_block() -> None:
    with Interruptions() as interruptions:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted), interruptions.armed():
            pytest.fail("the signal was lost")


def test_ignored_signals_stay_ignored_and_handlers_come_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handler = signal.getsignal(signal.SIGTERM)
        with Interruptions() as interruptions, interruptions.armed():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGTERM) == handler
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def gone(process: int) -> bool:
    """Whether it ends within moments: the kernel takes some to deliver SIGKILL."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False
