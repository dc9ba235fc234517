"""A list of a folder's files with their checksums, kept inside it, which tells whether it is still what it was.

One line a file: SHA-256, whether it is executable (`x` or `-`), and its path, sorted by path.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAME = ".manifest"


def seal(folder: Path) -> None:
    """Write the manifest, and have everything in the folder reach the disk.

    Without the latter, a crash after the folder's renaming may leave it with files that are empty.
    """
    text = "".join(f"{_line(folder, file)}\n" for file in _files(folder))
    (folder / NAME).write_text(text, "utf-8")
    for file in (folder / NAME, *(folder / name for name in _files(folder))):
        flush(file)
    for directory, _, _ in os.walk(folder):
        flush(directory)


def flaw(folder: Path) -> str | None:
    """Compare a folder with its manifest, every byte of it.

    Returns:
        What differs first, in a few words; None: nothing does.
    """
    try:
        sealed = (folder / NAME).read_text("utf-8").splitlines()
        found = _files(folder)
        listed = [line.split(" ", 2)[-1] for line in sealed]
        if not sealed or listed != found:
            odd = sorted(set(listed).symmetric_difference(found)) or [NAME]
            return f"{odd[0]} is {'not there' if odd[0] in listed else 'not listed'}"
        for line, file in zip(sealed, found, strict=True):
            if _line(folder, file) != line:
                return f"{file} has changed"
    except FileNotFoundError:
        return "it has no manifest"
    except (OSError, UnicodeDecodeError) as error:
        return f"it cannot be read: {error}"
    return None


def flush(path: Path | str) -> None:
    """Have a file, or a directory's entries, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> list[str]:
    """Every file below a folder, sorted, the manifest itself left out."""
    found = [
        os.path.relpath(os.path.join(directory, name), folder)  # noqa: PTH118 - pathlib takes ten times as long
        for directory, _, names in os.walk(folder)
        for name in names
    ]
    return sorted(set(found) - {NAME})


def _line(folder: Path, file: str) -> str:
    path = folder / file
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return f"{digest} {'x' if path.stat().st_mode & 0o111 else '-'} {file}"
