"""Hedging: a second attempt beside one that takes long, elsewhere; the first good answer wins.

Sources: "The Tail at Scale" (Dean and Barroso, 2013), whose hedged requests are sent after the 95th percentile of the
expected latency, and gRPC's hedgingPolicy (proposal A6), which gRPC for Python does not have.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from meshkit.background import end_tasks

__all__ = ["Hedging"]

Answer = TypeVar("Answer")

# First attempts that a percentile is taken of, the least number of them, and how often it is taken anew.
REMEMBERED = 1000
ENOUGH = 50
EVERY = 50
# Seconds; what is quicker than a timer of the event loop is not worth a second attempt.
LEAST_DELAY = 0.002
_PERCENTILE = re.compile(r"p([1-9][0-9]?(?:\.[0-9]+)?)")


class Hedging:
    """Decides when a second attempt is made, and runs both.

    A percentile is that of the last 1,000 first attempts that were answered or outrun. One that was outrun counts with
    the time until then; left out, it would make the percentile, and with it the delay, shrink ever further. Until 50
    are known there is no second attempt.

    Args:
        delay: seconds until the second attempt, or a percentile as `"p95"`: then about 5% of calls have one.

    Raises:
        ValueError: the delay is neither.
    """

    def __init__(self, delay: float | str) -> None:
        self._delay: float | None = None
        self._quantile: float | None = None
        if isinstance(delay, str):
            if not (match := _PERCENTILE.fullmatch(delay)):
                raise ValueError(f'expected a delay in seconds, or a percentile as "p95", got {delay!r}')
            self._quantile = float(match[1]) / 100
        elif not 0 <= delay < math.inf:
            raise ValueError(f"expected a delay of at least 0 s, got {delay:g}")
        else:
            self._delay = delay
        self._took: deque[float] = deque(maxlen=REMEMBERED)
        self._noted = 0

    @property
    def delay(self) -> float | None:
        """Seconds until the second attempt; None: too few calls have been made to know."""
        return self._delay

    async def run(
        self,
        first: Coroutine[Any, Any, Answer],
        second: Callable[[], Coroutine[Any, Any, Answer] | None],
        *,
        is_final: Callable[[Exception], bool],
    ) -> Answer:
        """The first good answer; the attempt that has not given it is cancelled, and has ended on return.

        Args:
            first: makes the first attempt.
            second: begins the second one; None: there can be none.
            is_final: for which errors the other attempt need not be waited for.

        Raises:
            Exception: the error of the attempt that ended last, or a final one.
        """
        clock = asyncio.get_running_loop().time
        start = clock()
        attempts = {asyncio.create_task(first)}
        try:
            done, pending = await asyncio.wait(attempts, timeout=self._delay)
            if not done and (other := second()) is not None:
                attempts.add(asyncio.create_task(other))
            while True:
                done, pending = await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
                if good := [attempt for attempt in done if attempt.exception() is None]:
                    self._note(clock() - start)
                    return good[0].result()
                for error in filter(None, (attempt.exception() for attempt in done)):
                    if not pending or not isinstance(error, Exception) or is_final(error):
                        raise error
                attempts = pending
        finally:
            await end_tasks(attempts)

    def _note(self, seconds: float) -> None:
        if self._quantile is None:
            return
        self._took.append(seconds)
        self._noted += 1
        if self._noted >= ENOUGH and self._noted % EVERY == 0:
            ranked = sorted(self._took)
            self._delay = max(LEAST_DELAY, ranked[math.ceil(self._quantile * len(ranked)) - 1])
