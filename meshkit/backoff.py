"""Full-jitter exponential backoff.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: of the strategies compared there, a delay
drawn uniformly from [0, min(cap, base * 2**n)] makes contending clients finish first with the least work.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff", "Streak"]


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
    """Failures in a row of something that is meant to last, such as a watch, and the waits between them.

    What lasted longer than the backoff's cap before it failed begins a new row: a watch that holds for minutes is
    tried again at once, one that is always refused right away is not, though each time it seemed to start well.

    Args:
        backoff: how long to wait.
    """

    def __init__(self, backoff: Backoff) -> None:
        self.failures = 0
        self._backoff = backoff
        self._begun = asyncio.get_running_loop().time()

    def delay(self) -> float:
        """Count a failure; seconds to wait until the next try, which is taken to begin after them."""
        now = asyncio.get_running_loop().time()
        if now - self._begun > self._backoff.cap:
            self.failures = 0
        self.failures += 1
        delay = self._backoff.delay(self.failures)
        self._begun = now + delay
        return delay
