"""Full-jitter exponential backoff.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: of the strategies compared there, a delay
drawn uniformly from [0, min(cap, base * 2**n)] makes contending clients finish first with the least work.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between tries, in seconds.

    Parameters:
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
