"""Logs which entries under a prefix are ignored; when there are many, only their number: anything may be in etcd."""

from __future__ import annotations

import asyncio
import math

import structlog

__all__ = ["IgnoredRegistrations"]

log = structlog.stdlib.get_logger(__name__)

# Of so many a minute each has a line of its own; the others are counted, in a line a minute.
TOLD = 20
MINUTE = 60.0


class IgnoredRegistrations:
    """The entries below a prefix that are ignored.

    Args:
        prefix: for the log.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._began = self._counted_at = -math.inf
        self._told = 0
        self._untold = 0

    def add(self, key: str, reason: str) -> None:
        """Say that an entry is ignored, and why, or count it."""
        now = asyncio.get_running_loop().time()
        if now - self._began >= MINUTE:
            self._began, self._told = now, 0
        if self._told < TOLD:
            self._told += 1
            log.warning("registration ignored", key=key[:200], reason=reason)
        else:
            self._untold += 1

    def settle(self) -> None:
        """Say how many have only been counted, if it is time to; for the end of a list or of a batch of changes."""
        now = asyncio.get_running_loop().time()
        if self._untold and now - self._counted_at >= MINUTE:
            log.warning("more registrations ignored", prefix=self._prefix, count=self._untold)
            self._counted_at, self._untold = now, 0
