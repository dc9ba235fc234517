"""Runs other programs so that none outlives what asked for it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from toolchain.interruption import deferred

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def run(
    command: Sequence[str | Path],
    on_line: Callable[[str], object] | None,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    end_by: signal.Signals = signal.SIGTERM,
    end_alone: bool = False,
    grace: float = 10.0,
) -> int:
    """Run a program, and everything that it starts, to the end.

    It has a process group of its own: a terminal's Ctrl-C reaches the caller alone. When an exception passes through
    here (`Interrupted`, say), the group is asked to end, and killed if it does not.

    Args:
        command: the program and its arguments. It reads nothing from standard input.
        on_line: called with each line that it prints, on either stream; None: it prints where the caller does.
        cwd: its working directory.
        env: environment variables on top of the caller's own.
        timeout: seconds that it may take.
        end_by: the signal that asks it, and what it started, to end.
        end_alone: whether only itself is asked, and what it started may come to its own end.
        grace: seconds that all of them have then.

    Returns:
        Its exit status; negative: the signal that ended it.

    Raises:
        OSError: it cannot be started.
        TimeoutError: it took too long. Nothing of it runs any more.
    """
    child: subprocess.Popen[str] | None = None
    alarm: threading.Timer | None = None
    expired = threading.Event()
    try:
        # An exception between fork and here would leave an unknown child.
        with deferred():
            child = _start(command, captured=on_line is not None, cwd=cwd, env=env)
        if timeout is not None:
            alarm = threading.Timer(timeout, _expire, (child, expired))
            alarm.daemon = True
            alarm.start()
        if on_line is not None and child.stdout is not None:
            with child.stdout:
                for line in child.stdout:
                    on_line(line.rstrip())
        status = child.wait()
    except BaseException:
        if child is not None:
            _end(child, end_by, grace, alone=end_alone)
        raise
    finally:
        if alarm is not None:
            alarm.cancel()
    if expired.is_set():
        raise TimeoutError(f"{command[0]} was not done after {timeout:g} s")
    return status


def _start(
    command: Sequence[str | Path], *, captured: bool, cwd: Path | None, env: Mapping[str, str] | None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if captured else None,
        stderr=subprocess.STDOUT if captured else None,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _end(child: subprocess.Popen[str], how: signal.Signals, grace: float, *, alone: bool) -> None:
    deadline = time.monotonic() + grace
    if alone:
        child.send_signal(how)
    else:
        _signal(child, how)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(grace)
    # What it started may take longer, or be deaf. No other group has its number as long as one of these lives.
    while _signal(child, None) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal(child, signal.SIGKILL)
    child.wait()


def _expire(child: subprocess.Popen[str], expired: threading.Event) -> None:
    expired.set()
    _signal(child, signal.SIGKILL)


def _signal(child: subprocess.Popen[str], number: signal.Signals | None) -> bool:
    """Signal all of its group; whether there is any of it. None: only look."""
    try:
        os.killpg(child.pid, number or 0)
    except ProcessLookupError:
        return False
    return True
