"""Counts of all calls of a run, in memory that does not grow with them."""

from __future__ import annotations

import math
from collections import Counter

__all__ = ["Tally"]


class Tally:
    """Calls, failures, calls by instance, and latencies to within 1%."""

    # Ratio of a latency bucket's bounds.
    STEP = 1.01

    def __init__(self) -> None:
        self.calls = 0
        self.failures = 0
        self.by_instance: Counter[str] = Counter()
        self._latencies: Counter[int] = Counter()

    def add(self, instance: str, duration: float, *, failed: bool) -> None:
        """Count one call; `duration` in seconds."""
        self.calls += 1
        self.failures += failed
        self.by_instance[instance] += 1
        self._latencies[round(math.log(max(duration, 1e-9), self.STEP))] += 1

    def percentile(self, percent: float) -> float | None:
        """Seconds within which that share of all calls has ended (nearest rank); None where there was no call."""
        rank = math.ceil(self.calls * percent / 100)
        seen = 0
        for bucket in sorted(self._latencies):
            seen += self._latencies[bucket]
            if seen >= rank:
                return float(self.STEP**bucket)
        return None
