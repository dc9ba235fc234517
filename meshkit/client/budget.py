"""How many retries a client may make, in all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["RetryBudget"]


class RetryBudget:
    """Retries as a share of calls: each call pays `ratio` of a token in, each retry takes one out.

    When a whole service fails, three attempts per call would triple its load; with a budget it grows by a
    fifth. Where calls are few, `min_per_second` retries are granted in any case; they do not come on top of the share.

    Source: Finagle's RetryBudget (20% and a minimum per second) and gRPC's retry throttling (proposal A6), in which
    a bucket of fixed size stands for the history.

    Args:
        ratio: retries a call, in the long run. Default 0.2: attempts are at most 1.2 x calls.
        reserve: tokens at the start, and the most that can be saved up: the burst of retries when an instance dies
            with that many calls in flight. Default 1000.
        min_per_second: retries a second that are granted though the budget is spent. Default 1, one at a time.
        clock: seconds, monotonic. Default time.monotonic.
    """

    def __init__(
        self,
        *,
        ratio: float = 0.2,
        reserve: int = 1000,
        min_per_second: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if ratio < 0 or reserve < 0:
            raise ValueError(f"expected a ratio and a reserve of at least 0, got {ratio:g} and {reserve}")
        self._ratio = ratio
        self._reserve = reserve
        self._tokens = float(reserve)
        self._per_second = min_per_second
        self._clock = clock
        self._granted_at = -math.inf

    @property
    def tokens(self) -> float:
        """Retries that may be made at once, now; at most `reserve`."""
        return self._tokens

    @property
    def reserve(self) -> int:
        """The most tokens that can be saved up."""
        return self._reserve

    def deposit(self) -> None:
        """A call begins."""
        self._tokens = min(self._reserve, self._tokens + self._ratio)

    def withdraw(self) -> bool:
        """Whether there may be a retry; takes its token."""
        now = self._clock()
        if self._tokens >= 1:
            self._tokens -= 1
        # Counted from the last retry of any kind, so that it adds nothing where the share is larger.
        elif (now - self._granted_at) * self._per_second < 1:
            return False
        self._granted_at = now
        return True
