"""Steps of the driver: what is being done, how long it took, and a log of each step's commands in .run/kind."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from deploy.kind.errors import KindError, StepError
from deploy.kind.faults import explanation
from deploy.kind.settings import LOGS, ROOT
from toolchain.command import run
from toolchain.errors import ToolchainError
from toolchain.interruption import Interrupted
from toolchain.progress import Meter, showing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_SHOWN = 25
"""Lines of a failed command that are shown; its log has them all."""
_GRACE = 60.0
"""Seconds that a command has to end when a signal has come; mmdebstrap unmounts and removes what it has made."""


def say(text: str, by: str = "kind") -> None:
    """Tell the user, on standard error."""
    print(f"{by}: {text}", file=sys.stderr, flush=True)


class Step:
    """One step. Its commands' output goes to its log, and their last line to the progress.

    Args:
        log: an open file.
        meter: how far it has come.
    """

    def __init__(self, log: IO[str], meter: Meter) -> None:
        self._log = log
        self._meter = meter
        self._lines = 0
        self.last: deque[str] = deque(maxlen=_SHOWN)

    def run(self, *command: str | Path, env: Mapping[str, str] | None = None, end_alone: bool = False) -> None:
        """Run a command in the checkout's root.

        Args:
            command: the program and its arguments.
            env: environment variables on top of this process's.
            end_alone: for a signal, see `toolchain.command.run`.

        Raises:
            StepError: it cannot be run, or fails.
        """
        self._log.write(f"$ {' '.join(str(part) for part in command)}\n")
        try:
            status = run(
                command, self._on_line, cwd=ROOT, env=env, end_alone=end_alone, grace=15.0 if end_alone else _GRACE
            )
        except OSError as error:
            raise StepError(f"cannot run {command[0]}: {error.strerror}") from error
        if status != 0:
            raise StepError(f"{command[0]} ended with status {status}")

    def _on_line(self, line: str) -> None:
        self._log.write(f"{line}\n")
        self._log.flush()
        if line.strip():
            self._lines += 1
            self.last.append(line)
            self._meter.reached(self._lines, line.strip()[:100])


@contextmanager
def step(text: str) -> Iterator[Step]:
    """Show a step while it is done, and its duration when it is.

    Args:
        text: what is done; names its log too.

    Raises:
        StepError: one of its commands failed. The end of what it printed has been shown.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f"{re.sub(r'[^A-Za-z0-9.]', '-', text)}.log"
    began = time.monotonic()
    shown: Step | None = None
    try:
        with path.open("w", encoding="utf-8") as log, showing() as progress:
            shown = Step(log, progress.step(f"kind: {text}"))
            yield shown
    except StepError as error:
        last = list(shown.last) if shown else []
        print(*last, sep="\n", file=sys.stderr)
        advice = explanation("\n".join(last))
        where = f"all of its output is in {path.relative_to(ROOT)}"
        why = f"{text}: failed after {time.monotonic() - began:.0f} s: {error}; {where}"
        raise StepError(f"{why}\nkind: {advice}" if advice else why) from error
    say(f"{text}: {time.monotonic() - began:.0f} s")


@contextmanager
def reporting(by: str = "kind") -> Iterator[None]:
    """End the program with a line that says why, where the block fails or a signal ends it."""
    try:
        yield
    except (KindError, ToolchainError, OSError) as error:
        say(str(error), by)
        sys.exit(1)
    except Interrupted as interrupted:
        say(str(interrupted), by)
        sys.exit(interrupted.status)
