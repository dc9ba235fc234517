"""SHA-256 checksums of files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from toolchain.errors import ChecksumError

if TYPE_CHECKING:
    from pathlib import Path


def verify(path: Path, expected: str) -> None:
    """Compare a file with its pinned checksum, and remove it if they differ.

    Args:
        path: the file.
        expected: SHA-256, 64 hexadecimal digits.

    Raises:
        ChecksumError: they differ; the file is gone.
    """
    with path.open("rb") as content:
        actual = hashlib.file_digest(content, "sha256").hexdigest()
    if actual != expected:
        path.unlink()
        raise ChecksumError(
            f"{path.name}: expected SHA-256 {expected}, got {actual}; the file has been removed: "
            "try again, and if it stays so, do not trust the network in between"
        )
