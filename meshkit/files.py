"""Small files such as certificates and passwords: read whole, and without waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["read_small"]

MAX_BYTES = 1024 * 1024


def read_small(path: Path) -> bytes:
    """Read a regular file of at most 1 MiB; a FIFO or a device could hold up its reader, or have no end.

    Raises:
        ValueError: one line that names the file and says what is wrong with it.
    """
    try:
        # Without this, opening a FIFO waits for its writer.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ValueError(f"{path}: expected a regular file")
            content = b""
            # One byte more than the limit, to see that it is exceeded.
            while more := os.read(file, MAX_BYTES + 1 - len(content)):
                content += more
        finally:
            os.close(file)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: expected at most {MAX_BYTES // 1024} KiB")
    return content
