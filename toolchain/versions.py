"""Version numbers of programs: read out of their own words, and compared."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

from toolchain.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

_NUMBERS = re.compile(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?")
_PATIENCE = 10.0
"""Seconds a program may take to tell its version."""


class Version(NamedTuple):
    """Major, minor and patch; anything after those (`-rc.1`, `+build`) is ignored."""

    major: int
    minor: int = 0
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read the first version number in a text.

        Raises:
            ValueError: there is none.
        """
        found = _NUMBERS.search(text)
        if found is None:
            raise ValueError(f"expected a version number like 3.6.14, got {text!r}")
        return cls(*(int(number) for number in found.groups(default="0")))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def announced(output: str, marker: str) -> Version:
    """Read the version that follows a marker in a program's output.

    The marker keeps other numbers out: `java` may first repeat its options, `kubectl` also prints kustomize's version.

    Args:
        output: what the program printed.
        marker: the text just before the version, for instance `etcd Version: `.

    Raises:
        ValueError: the marker is not in the output, or no number follows it.
    """
    _, found, rest = output.partition(marker)
    if not found:
        raise ValueError(f"expected {marker!r} before a version number, got {output.strip()[:80]!r}")
    return Version.parse(rest.split("\n", 1)[0])


def ask(command: Sequence[str], marker: str) -> Version:
    """Run a program and read the version that it prints, on either stream.

    Raises:
        SourceUnavailableError: it cannot be run, fails, or prints no version.
    """
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceUnavailableError(f"{command[0]} does not tell its version: {error}") from error
    try:
        return announced(done.stdout + done.stderr, marker)
    except ValueError as error:
        raise SourceUnavailableError(f"{' '.join(command)}: {error}") from error
