"""Where a tool can come from; each source either fills a folder or says why it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from toolchain.progress import Progress


class Source(Protocol):
    """One way to get a tool that is not on the machine yet."""

    def fill(self, folder: Path, progress: Progress) -> None:
        """Put the tool's files into an empty folder.

        Raises:
            SourceUnavailableError: it cannot be had this way here.
            ChecksumError: what came is not what was pinned.
        """
