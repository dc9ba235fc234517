"""The user's cache of what is costly to fetch or build: one folder a tool and version, complete or absent.

An entry carries a manifest of its files (`toolchain.manifest`), and is compared with it each time that it is used: a
crash, a full disk or another user may have left anything.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain import manifest
from toolchain.errors import CacheError

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
        root: the cache's folder; made when first needed, for its owner alone.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, key: str) -> Path:
        """Return where the entry `key` is, or would be."""
        return self._root / key

    @contextmanager
    def locked(self, key: str, *, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Hold an entry (or any other name) alone, among all processes of this machine.

        The system frees it when its holder dies.

        Args:
            key: the entry.
            on_wait: called once if another process holds it now.

        Raises:
            CacheError: the cache is not this user's alone to write, or not writable.
        """
        self._open()
        file = self._root / f"{key}.lock"
        try:
            lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise CacheError(f"cannot open {file}: {error.strerror}; remove it, or set XDG_CACHE_HOME") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def flaw(self, key: str) -> str | None:
        """Compare an entry with its manifest; the caller holds the entry's lock.

        Returns:
            What is wrong with it, in a few words; None: it is whole. One that is not there has a flaw, too.
        """
        entry = self.folder(key)
        if not entry.is_dir():
            return "it is not there"
        if entry.stat().st_uid != os.geteuid():
            return f"it belongs to {_user(entry.stat().st_uid)}"
        return manifest.flaw(entry)

    @contextmanager
    def filling(self, key: str) -> Iterator[Path]:
        """Give an empty folder to fill; it becomes the entry if the block ends well, else it is removed.

        The caller holds the entry's lock. What was the entry before goes.
        """
        for stale in self._root.glob(f"{_PARTIAL}{key}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{key}-", dir=self._root))
        try:
            yield partial
            manifest.seal(partial)
            entry = self.folder(key)
            if entry.is_dir() and not entry.is_symlink():
                # Away first, in one step: who uses it now misses it for a moment only, and another user's folder can be
                # renamed where it cannot be emptied.
                entry.rename(tempfile.mkdtemp(prefix=f"{_PARTIAL}{key}-", dir=self._root))
            else:
                entry.unlink(missing_ok=True)
            partial.rename(entry)
            manifest.flush(self._root)
        finally:
            for left in self._root.glob(f"{_PARTIAL}{key}-*"):
                shutil.rmtree(left, ignore_errors=True)

    def _open(self) -> None:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self._root.stat()
        except OSError as error:
            raise CacheError(f"cannot make {self._root}: {error.strerror}; set XDG_CACHE_HOME to another") from error
        if status.st_uid != os.geteuid():
            owner, here = _user(status.st_uid), _user(os.geteuid())
            raise CacheError(f"{self._root} belongs to {owner}, not to {here}: be that user, or set XDG_CACHE_HOME")
        if status.st_mode & 0o022:
            raise CacheError(f"others may write to {self._root}: chmod go-w it, or remove it if you do not trust them")


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
