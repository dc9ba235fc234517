"""Counts over a rolling window of time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["RollingCounts"]


class RollingCounts:
    """Calls and failures of the last `window` seconds, in ten buckets that expire one by one.

    Args:
        window: seconds that a call counts for.
        clock: seconds, monotonic.
    """

    BUCKETS = 10

    def __init__(self, window: float, clock: Callable[[], float]) -> None:
        self._bucket_length = window / self.BUCKETS
        self._clock = clock
        self._buckets: deque[tuple[int, list[int]]] = deque()

    def add(self, *, failed: bool) -> None:
        """Count one call."""
        now = self._expire()
        if not self._buckets or self._buckets[-1][0] != now:
            self._buckets.append((now, [0, 0]))
        counts = self._buckets[-1][1]
        counts[0] += 1
        counts[1] += failed

    def totals(self) -> tuple[int, int]:
        """Calls and failures within the window."""
        self._expire()
        return sum(c[0] for _, c in self._buckets), sum(c[1] for _, c in self._buckets)

    def clear(self) -> None:
        """Forget all."""
        self._buckets.clear()

    def _expire(self) -> int:
        now = int(self._clock() / self._bucket_length)
        while self._buckets and self._buckets[0][0] <= now - self.BUCKETS:
            self._buckets.popleft()
        return now
