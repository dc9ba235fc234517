"""Files written by others, which could block a reader or never end."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from meshkit.files import MAX_BYTES, read_small


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * MAX_BYTES)
    assert read_small(tmp_path / "file") == b"x" * MAX_BYTES


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "expected a regular file"),
        (Path.mkdir, "expected a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a regular file"),
        (lambda path: path.symlink_to("/dev/tty"), "expected a regular file|No such device"),
        (lambda path: path.symlink_to(path), "symbolic links"),
        (_sparse, "at most 1024 KiB"),
        (lambda path: None, "No such file"),
    ],
    ids=["FIFO", "folder", "without an end", "terminal", "link to itself", "1 TiB", "missing"],
)
def test_anything_else_is_refused_at_once_by_name(tmp_path: Path, make: Callable[[Path], object], why: str) -> None:
    path = tmp_path / "file"
    make(path)
    with pytest.raises(ValueError, match=f"{path}: .*({why})"):
        read_small(path)
