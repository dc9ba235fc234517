"""Programs built from source with the machine's Go compiler.

Go verifies every module: against the committed go.sum, or, for a program named by version, against Go's
public checksum database.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import shutil
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from toolchain import versions
from toolchain.command import run
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
        stamped: what the linker writes into string variables (`import/path.variable`), a version for instance.
        duration: how long it takes, for the user.
    """

    directory: Path
    programs: Mapping[str, str]
    stamped: Mapping[str, str] = field(default_factory=dict)
    duration: str = "a minute or two"

    def fill(self, folder: Path, progress: Progress) -> None:
        """Build the programs, statically linked so that they run wherever they are copied."""
        stamps = "".join(f" -X {variable}={value}" for variable, value in self.stamped.items())
        flags = ("-mod=readonly", "-trimpath", f"-ldflags=-s -w{stamps}")
        # All at once: while one is linked, which keeps one core busy, others are compiled.
        command = ["build", "-v", *flags, "-o", f"{folder}/", *self.programs.values()]
        label = f"building {', '.join(self.programs)} from source ({self.duration})"
        _go(command, label, progress, directory=self.directory)
        for name, package in self.programs.items():
            (folder / _program(package)).rename(folder / name)

    def digest(self) -> str:
        """Eight hex digits for what is built: the module's files, the programs and the stamps."""
        told = hashlib.sha256(repr((sorted(self.programs.items()), sorted(self.stamped.items()))).encode())
        for file in sorted(path for path in self.directory.rglob("*") if path.is_file()):
            told.update(file.read_bytes())
        return told.hexdigest()[:8]


@dataclass(frozen=True)
class GoInstall:
    """Programs that their authors publish for `go install`.

    Args:
        path: import path of the program, or of the folder that the programs are in.
        version: of their module, without Go's `v`.
        programs: import paths below `path`; by default the program at `path` itself.
    """

    path: str
    version: str
    programs: tuple[str, ...] = ("",)

    def fill(self, folder: Path, progress: Progress) -> None:
        """Build them; each is called as the last element of its import path."""
        packages = [f"{'/'.join(filter(None, (self.path, below)))}@v{self.version}" for below in self.programs]
        command = ["install", "-v", "-trimpath", "-ldflags=-s -w", *packages]
        _go(command, f"building {', '.join(packages)} (some minutes)", progress, GOBIN=str(folder))


def _program(package: str) -> str:
    """Name what Go makes of an import path: its last element, a major version's `v3` left out."""
    *_, before, last = package.split("/")
    return before if re.fullmatch(r"v\d+", last) else last


def _go(arguments: Sequence[str], text: str, progress: Progress, *, directory: Path | None = None, **env: str) -> None:
    compiler = shutil.which("go")
    if compiler is None:
        raise SourceUnavailableError("no Go compiler on PATH to build it with")
    if (version := versions.ask((compiler, "version"), "go version go")) < _OLDEST:
        raise SourceUnavailableError(f"{compiler} is Go {version}, older than {_OLDEST}")
    meter = progress.step(text)
    last: deque[str] = deque(maxlen=3)
    done = itertools.count()

    def on_line(line: str) -> None:
        last.append(line.strip())
        meter.reached(next(done), line.strip())

    settings = {"CGO_ENABLED": "0", "GOWORK": "off", **env}
    if run([compiler, *arguments], on_line, cwd=directory, env=settings) != 0:
        raise SourceUnavailableError(f"go {arguments[0]} failed: {' / '.join(last)}")
