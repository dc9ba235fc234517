"""Full-jitter exponential backoff, and how often to log what keeps failing.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: of the strategies compared there, a delay
drawn uniformly from [0, min(cap, base * 2**n)] makes contending clients finish first with the least work.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff", "Outage", "Streak"]

# Failures that are logged in `every` seconds; further ones are not, unless they last for so many seconds.
LINES = 5
LASTING = 5.0
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
    """When to log that something fails and that it works again: each outage that lasts, and no flood.

    A failure is logged at once, at once for another reason, and then once a minute for each reason. After five lines
    within a minute, as when it comes and goes all the time, only an outage that has lasted for 5 s is logged, once.

    Args:
        every: seconds of that minute. Default 60.
    """

    def __init__(self, every: float = 60.0) -> None:
        self._every = every
        self._lines: deque[float] = deque(maxlen=LINES)
        self._untold = 0
        # Of the outage that goes on: when it began, whether it was logged, and when each reason was.
        self._began: float | None = None
        self._told = False
        self._reasons: dict[str, float] = {}

    def failed(self, reason: str) -> int:
        """Count a failure; return how many there were since the last one that was logged, or 0: do not log it."""
        now = asyncio.get_running_loop().time()
        self._untold += 1
        if self._began is None:
            self._began = now
        # Numbers such as ports and times differ from try to try and make no other reason.
        kind = _DIGITS.sub("#", reason)
        self._reasons = {known: at for known, at in self._reasons.items() if now - at < self._every}
        crowded = len(self._lines) == LINES and now - self._lines[0] < self._every
        if kind in self._reasons or (crowded and (self._told or now - self._began < LASTING)):
            return 0
        self._reasons[kind] = now
        self._lines.append(now)
        self._told = True
        untold, self._untold = self._untold, 0
        return untold

    def over(self) -> float | None:
        """Note that it works; return the seconds for which it failed, or None: no failure was logged since."""
        told, began = self._told, self._began
        self._told, self._began = False, None
        self._reasons.clear()
        if not told or began is None:
            return None
        self._untold = 0
        return asyncio.get_running_loop().time() - began
