"""Unix time that people and other programs are told, of which differences are true durations, too."""

from __future__ import annotations

import time

__all__ = ["unix_time"]

_MONOTONIC_TO_UNIX = time.time() - time.monotonic()


def unix_time() -> float:
    """Unix seconds by the clock as it was set when the program began, whoever sets it since."""
    return time.monotonic() + _MONOTONIC_TO_UNIX
