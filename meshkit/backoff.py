"""Full-jitter exponential backoff, and how often to log what keeps failing.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: of the strategies compared there, a delay
drawn uniformly from [0, min(cap, base * 2**n)] makes contending clients finish first with the least work.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff", "Outage", "Streak"]

# Different reasons that are logged in `every` seconds; further ones are not.
REASONS = 5
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between tries, in seconds.

    Args:
        base: upper bound of the first delay; doubles with every further failure. Default 50 ms.
        cap: upper bound of any delay. Default 1 s.
        uniform: draws a float from [0, 1); a parameter so that tests can fix it.
    """

    base: float = 0.05
    cap: float = 1.0
    uniform: Callable[[], float] = random.random

    def delay(self, failures: int) -> float:
        """Seconds to wait after the `failures`-th failure in a row, counted from 1."""
        # 2**63 times any base is past any cap; the bound keeps long outages from overflowing a float.
        return self.uniform() * min(self.cap, self.base * 2.0 ** min(failures - 1, 63))


class Streak:
    """Failures in a row of something that should last, such as a watch, and the waits between them.

    After something has worked for longer than the backoff's cap, its next failure starts a new row. So a watch that
    lasted for minutes is tried again at once, and one that is always refused soon after it began is not. A try that
    only took long to fail does not start a new row.

    Args:
        backoff: how long to wait.
    """

    def __init__(self, backoff: Backoff) -> None:
        self.failures = 0
        self._backoff = backoff
        self._holds_since: float | None = None

    def holds(self) -> None:
        """Say that it works from now on."""
        if self._holds_since is None:
            self._holds_since = asyncio.get_running_loop().time()

    def delay(self) -> float:
        """Count a failure; seconds to wait until the next try."""
        since, self._holds_since = self._holds_since, None
        if since is not None and asyncio.get_running_loop().time() - since > self._backoff.cap:
            self.failures = 0
        self.failures += 1
        return self._backoff.delay(self.failures)


class Outage:
    """When to log that something keeps failing: at once, at once for another reason, then once a minute.

    Args:
        every: seconds in which each reason is logged once. Default 60.
    """

    def __init__(self, every: float = 60.0) -> None:
        self._every = every
        self._told: dict[str, float] = {}
        self._untold = 0

    def __bool__(self) -> bool:
        return bool(self._told)

    def failed(self, reason: str) -> int:
        """Count a failure; return how many there were since the last one that was logged, or 0: do not log it."""
        now = asyncio.get_running_loop().time()
        self._untold += 1
        # Numbers such as ports and times differ from try to try and make no other reason.
        kind = _DIGITS.sub("#", reason)
        self._told = {known: at for known, at in self._told.items() if now - at < self._every}
        if kind in self._told or len(self._told) == REASONS:
            return 0
        self._told[kind] = now
        untold, self._untold = self._untold, 0
        return untold

    def over(self) -> bool:
        """Note that it works again; return whether a failure had been logged."""
        told = bool(self)
        self._told.clear()
        self._untold = 0
        return told
