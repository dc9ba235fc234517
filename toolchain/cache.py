"""The user's cache of what is costly to fetch or build: one folder a tool and version, complete or absent."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PARTIAL = ".partial-"


def default_root() -> Path:
    """Return `$XDG_CACHE_HOME/bookmesh`, or `~/.cache/bookmesh` (XDG Base Directory Specification)."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says that a relative path is to be ignored.
    base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".cache"
    return base / "bookmesh"


class Cache:
    """Folders that appear whole or not at all, also when two checkouts fill them at the same time.

    Args:
        root: the cache's folder; made when first needed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, key: str) -> Path:
        """Return where the entry `key` is, or would be."""
        return self._root / key

    @contextmanager
    def locked(self, key: str, *, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Hold an entry alone, among all processes of this machine; the system frees it when one dies.

        Args:
            key: the entry.
            on_wait: called once if another process holds it now.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / f"{key}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def filling(self, key: str) -> Iterator[Path]:
        """Give an empty folder to fill; it becomes the entry if the block ends well, else it is removed.

        The caller holds the entry's lock.
        """
        for stale in self._root.glob(f"{_PARTIAL}{key}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{key}-", dir=self._root))
        try:
            yield partial
            self.discard(key)
            partial.rename(self.folder(key))
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def discard(self, key: str) -> None:
        """Remove an entry if there is one."""
        shutil.rmtree(self.folder(key), ignore_errors=True)
