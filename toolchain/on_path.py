"""Programs that the machine has already, on PATH."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain import versions
from toolchain.errors import SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class OnPath:
    """A program on PATH, if it is new enough.

    Args:
        program: its name.
        minimum: the oldest version that will do.
        ask: its arguments that make it tell its version.
        marker: the text before the version in what it prints.
        companions: programs taken along if they are there too.
    """

    program: str
    minimum: versions.Version
    ask: tuple[str, ...]
    marker: str
    companions: tuple[str, ...] = ()

    def find(self, which: Callable[[str], str | None] = shutil.which) -> tuple[versions.Version, dict[str, Path]]:
        """Look for it.

        Returns:
            Its version, and the path of each program found, by name.

        Raises:
            SourceUnavailableError: it is missing, too old, or does not run.
        """
        found = which(self.program)
        if found is None:
            raise SourceUnavailableError(f"no {self.program} on PATH")
        version = versions.ask((found, *self.ask), self.marker)
        if version < self.minimum:
            raise SourceUnavailableError(f"{found} is {version}, older than {self.minimum}")
        beside = {name: path for name in self.companions if (path := which(name)) is not None}
        return version, {name: Path(path) for name, path in {self.program: found, **beside}.items()}
