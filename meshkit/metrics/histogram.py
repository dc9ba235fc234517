"""A histogram that costs a call less than a microsecond, and can be read without a scrape."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.trace import Span

from meshkit.tracing.root import trace_id_of

__all__ = ["BOUNDS", "PUBLISHED", "Exemplar", "Histogram", "quantile"]

# Seconds: the bounds that OpenTelemetry's conventions publish for calls; prometheus_client has the same by default.
PUBLISHED = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
# These, and as many between them that a percentile can be told within a third.
BOUNDS = tuple(
    sorted(
        (
            *PUBLISHED,
            *(0.0001, 0.00015, 0.0002, 0.0003, 0.0004, 0.0005, 0.0007, 0.001, 0.0014, 0.002, 0.0025, 0.003, 0.004),
            *(0.006, 0.008, 0.0125, 0.015, 0.02, 0.03, 0.04, 0.06, 0.15, 0.2, 0.3, 0.4, 0.6, 1.5, 2.0, 3.0, 4.0),
            *(15.0, 20.0, 30.0, 60.0),
        )
    )
)
_PUBLISHED_AT = tuple((bound, BOUNDS.index(bound)) for bound in PUBLISHED)
# Seconds between two exemplars of one histogram: each costs as much as several calls do.
EXEMPLAR_EVERY = 1.0


class Exemplar(NamedTuple):
    """A call that a histogram has counted: its trace, which was recorded, its seconds, and when it ended (Unix)."""

    trace_id: str
    value: float
    timestamp: float


class Histogram:
    """Seconds of calls, counted between `BOUNDS`: `counts[i]` are those up to `BOUNDS[i]`, the last are above all.

    For one thread. Of the published bounds the counts are exact, as each of them is among these.
    """

    __slots__ = ("_exemplar_due", "counts", "exemplar", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0
        self.exemplar: Exemplar | None = None
        self._exemplar_due = -1.0

    @property
    def count(self) -> int:
        """Calls so far."""
        return sum(self.counts)

    def observe(self, seconds: float, now: float, span: Span | None = None) -> None:
        """Count a call.

        Args:
            seconds: that it took.
            now: seconds of a monotonic clock, at its end.
            span: of its trace, for the exemplar; None: the current one.
        """
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds
        if now >= self._exemplar_due:
            self._note(seconds, now, span or trace.get_current_span())

    def _note(self, seconds: float, now: float, span: Span) -> None:
        self._exemplar_due = now + EXEMPLAR_EVERY
        # Of a trace that is not recorded there would be nothing to find.
        if span.get_span_context().trace_flags.sampled:
            self.exemplar = Exemplar(trace_id_of(span), seconds, time.time())

    def add(self, other: Histogram) -> None:
        """Count all that another one has counted."""
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum
        self.exemplar = self.exemplar or other.exemplar

    def buckets(self) -> list[tuple[float, int]]:
        """The published bounds, each with the number of calls that took at most so long; infinity, with all."""
        totals = list(accumulate(self.counts))
        return [*((bound, totals[at]) for bound, at in _PUBLISHED_AT), (float("inf"), totals[-1])]


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The seconds within which a share of calls ended, interpolated between the bounds; None without a call.

    Args:
        counts: as a Histogram has, or what was added to them within a time.
        share: from 0 to 1, e.g. 0.99.
    """
    rank = share * sum(counts)
    below = 0
    for at, count in enumerate(counts):
        if count and below + count >= rank:
            if at == len(BOUNDS):
                return BOUNDS[-1]
            lower = BOUNDS[at - 1] if at else 0.0
            return lower + (BOUNDS[at] - lower) * max(0.0, rank - below) / count
        below += count
    return None
