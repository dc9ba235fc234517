"""The story of `make demo`: five acts, a verdict on every call, and nothing left behind whenever it is ended."""

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from localmesh.process import Process
from tests.support.admin_port import AdminPort
from tests.support.demo import COMMAND, Terminal, all_gone, demo, descendants, wait_for

STORY = ("--story", "--act-seconds", "3")


async def test_it_tells_five_acts_shows_a_call_made_again_and_every_call_has_a_whole_trace(run_dir: Path) -> None:
    log = run_dir / "out"
    with demo(log, *STORY) as process:
        await wait_for(log, "act 1 of 5", within=180)
        parts = descendants(process.pid)
        await wait_for(log, "act 5 of 5")
        marks = await marks_of_the_page(log)
        assert process.wait(timeout=300) == 0, log.read_text()
    await all_gone(parts)
    # Each thing that was done is a button of the page, and a mark in its chart; so is what came of it.
    done = [mark["text"].partition(":")[0] for mark in marks if mark["kind"] == "action"]
    assert done[:3] == ["sicken", "kill", "etcd-stop"]
    assert {"came", "ejected", "etcd-away"} <= {mark["kind"] for mark in marks}
    text = log.read_text()
    assert [
        int(number)
        for number in re.findall(r"^act (\d) of 5: .+\n  look: .+\n  \d+ calls, 0 failed", text, re.MULTILINE)
    ] == [*range(1, 6)]
    assert "instance ejected after" in text
    assert "instance back after" in text
    # The trace of a call that was made again: both attempts are in it, the first with its error.
    assert re.search(r"Call \d+ met the sick replica, and was made again:\ntrace [0-9a-f]{32}: [67] spans", text)
    assert "getbookinfo: UNAVAILABLE: on demand" in text
    calls, again, whole, excused = _verdict(text)
    assert again > 0
    assert whole + excused == calls > 50


async def marks_of_the_page(log: Path) -> list[dict[str, Any]]:
    (address,) = re.findall(r"the page +http://(\S+)/", log.read_text())
    async with AdminPort(Process("demo", [], run_dir=log.parent), address).events() as stream:
        marks: list[dict[str, Any]] = (await stream.wait("hello"))["marks"]
    return marks


def _verdict(text: str) -> tuple[int, int, int, int]:
    """Calls, those made again, whole traces, and those that lack what the killed replica had."""
    calls, again = re.findall(r"verdict: (\d+) calls, 0 failed, (\d+) made again", text)[0]
    (whole,) = re.findall(r"(\d+) traces are whole, 0 are broken", text)
    excused = re.findall(r"(\d+) lack only what the replica that died had not sent", text)
    return int(calls), int(again), int(whole), int(*excused)


async def test_calls_that_fail_are_told_in_the_verdict_and_in_the_exit_code(run_dir: Path) -> None:
    log = run_dir / "out"
    with demo(log, *STORY, env={"BOOK_CLIENT_ATTEMPTS": "1", "BOOK_CLIENT_BREAKER_ERROR_PERCENT": "100"}) as process:
        await wait_for(log, "act 1 of 5", within=180)
        assert process.wait(timeout=300) == 1
    text = log.read_text()
    assert re.search(r"verdict: \d+ calls, [1-9]\d* failed, 0 made again", text)
    assert re.search(r"call \d+ of the client .+ failed: .+ UNAVAILABLE", text)


@pytest.mark.parametrize("act", range(1, 6))
async def test_ctrl_c_in_any_act_ends_it_and_leaves_nothing(run_dir: Path, act: int) -> None:
    log, folder = run_dir / "out", run_dir / "tmp"
    folder.mkdir()
    with demo(log, *STORY, env={"TMPDIR": str(folder)}) as process:
        await wait_for(log, "act 1 of 5", within=180)
        await wait_for(log, f"act {act} of 5")
        parts = descendants(process.pid)
        assert len(parts) >= 5
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    await all_gone(parts)
    assert not list(folder.iterdir())
    assert "Traceback" not in log.read_text()


async def test_in_a_terminal_it_is_offered_after_the_calls_and_told_on_enter() -> None:
    with Terminal("--calls", "2", "--rate", "50", "--act-seconds", "3") as terminal:
        await terminal.wait_shown("Enter tells a story in five acts of 3 s.", within=180)
        terminal.type("\n")
        await terminal.wait_shown("act 5 of 5", within=120)
        await terminal.wait_shown("0 failed", within=60)
        await terminal.wait_shown("verdict", within=60)
        await terminal.wait_shown("Enter tells a story", within=60)
        parts = descendants(terminal.process.pid)
        terminal.process.send_signal(signal.SIGINT)
        assert await terminal.wait_ended(within=60) == 0
    await all_gone(parts)


def test_a_story_takes_three_replicas() -> None:
    command = [*COMMAND, "--story", "--replicas", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "a story needs at least 3" in done.stderr
