"""Programs built from source with the machine's Go compiler.

Go verifies every module: against the committed go.sum, or, for a program named by version, against Go's
public checksum database.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolchain import versions
from toolchain.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from toolchain.progress import Progress

_OLDEST = versions.Version(1, 21)
"""The first Go that fetches a newer one by itself when a module asks for it."""


@dataclass(frozen=True)
class GoModule:
    """Programs out of a module of ours that pins them and all they need in its go.sum.

    Args:
        directory: the folder of its go.mod.
        programs: import path of each program, by the name that it gets.
    """

    directory: Path
    programs: Mapping[str, str]

    def fill(self, folder: Path, progress: Progress) -> None:
        """Build each program, statically linked so that it runs wherever it is copied."""
        flags = ("-mod=readonly", "-trimpath", "-ldflags=-s -w")
        for name, package in self.programs.items():
            command = ["build", "-v", *flags, "-o", str(folder / name), package]
            _go(command, f"building {name} from source (a minute or two)", progress, directory=self.directory)


@dataclass(frozen=True)
class GoInstall:
    """A program that its authors publish for `go install`.

    Args:
        package: import path and version, `example.org/cmd/program@v1.2.3`; the program gets its last element's name.
    """

    package: str

    def fill(self, folder: Path, progress: Progress) -> None:
        """Build it."""
        command = ["install", "-v", "-trimpath", "-ldflags=-s -w", self.package]
        _go(command, f"building {self.package} (some minutes)", progress, GOBIN=str(folder))


def _go(arguments: Sequence[str], text: str, progress: Progress, *, directory: Path | None = None, **env: str) -> None:
    compiler = shutil.which("go")
    if compiler is None:
        raise SourceUnavailableError("no Go compiler on PATH to build it with")
    if (version := versions.ask((compiler, "version"), "go version go")) < _OLDEST:
        raise SourceUnavailableError(f"{compiler} is Go {version}, older than {_OLDEST}")
    meter = progress.step(text)
    last: deque[str] = deque(maxlen=3)
    with subprocess.Popen(
        [compiler, *arguments],
        cwd=directory,
        env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as building:
        assert building.stderr is not None
        for done, line in enumerate(building.stderr):
            last.append(line.strip())
            meter.reached(done, line.strip())
    if building.returncode != 0:
        raise SourceUnavailableError(f"go {arguments[0]} failed: {' / '.join(last)}")
