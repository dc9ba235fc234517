"""Token-bucket rate limiters: one lets calls wait for their token, one refuses them.

The bucket is that of golang.org/x/time/rate: it holds `burst` tokens, starts full, and gains `rate` a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from meshkit import deadline
from meshkit.endpoint import Endpoint, Request, Response
from meshkit.errors import RateLimitedError

__all__ = ["DelayingLimiter", "ErroringLimiter", "TokenBucket"]


class TokenBucket:
    """`rate` tokens a second, at most `burst` at once.

    Args:
        rate: tokens a second, above 0.
        burst: the bucket's size, at least 1. Default 1.
        clock: seconds, monotonic. Default time.monotonic.
    """

    def __init__(self, rate: float, burst: int = 1, *, clock: Callable[[], float] = time.monotonic) -> None:
        if rate <= 0:
            raise ValueError(f"expected a rate above 0 a second, got {rate:g}")
        if burst < 1:
            raise ValueError(f"expected a burst of at least 1, got {burst}")
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock()

    def take(self) -> bool:
        """Take one token if there is one."""
        self._fill()
        # A timer may fire a rounding error before the token is whole.
        if self._tokens < 1 - 1e-6:
            return False
        self._tokens -= 1
        return True

    def give_back(self) -> None:
        """Return a token that was taken and not used."""
        self._tokens = min(self.burst, self._tokens + 1)

    def wait_for(self, tokens: int) -> float:
        """Seconds until the bucket has gained so many tokens, those it holds included."""
        self._fill()
        return max(0.0, (tokens - self._tokens) / self.rate)

    def _fill(self) -> None:
        now = self._clock()
        self._tokens = min(self.burst, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now


class ErroringLimiter:
    """A middleware that refuses calls for which there is no token, with RateLimitedError (RESOURCE_EXHAUSTED)."""

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket

    def __call__(self, endpoint: Endpoint[Request, Response]) -> Endpoint[Request, Response]:
        """Wrap an endpoint; all endpoints wrapped by one limiter share its bucket."""

        async def limited(request: Request) -> Response:
            if not self._bucket.take():
                raise RateLimitedError(f"rate limit of {self._bucket.rate:g} calls/s exceeded")
            return await endpoint(request)

        return limited


class DelayingLimiter:
    """A middleware that lets calls wait for their token, first come, first served.

    A call whose token cannot come before its deadline fails at once, with RateLimitedError (RESOURCE_EXHAUSTED):
    waiting would only cost both sides. A call that is cancelled while it waits gives its place to the next.
    """

    def __init__(self, bucket: TokenBucket) -> None:
        self._bucket = bucket
        # A dict, for its order and for O(1) leaving from the middle.
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, endpoint: Endpoint[Request, Response]) -> Endpoint[Request, Response]:
        """Wrap an endpoint; all endpoints wrapped by one limiter share its bucket and its queue."""

        async def limited(request: Request) -> Response:
            await self.acquire()
            return await endpoint(request)

        return limited

    async def acquire(self) -> None:
        """Wait for a token.

        Raises:
            RateLimitedError: it would come after the current deadline.
        """
        if not self._waiting and self._bucket.take():
            return
        wait = self._bucket.wait_for(len(self._waiting) + 1)
        remaining = deadline.remaining()
        if remaining is not None and wait > remaining:
            raise RateLimitedError(
                f"rate limit of {self._bucket.rate:g} calls/s: a token would take {wait:.3f} s,"
                f" the deadline is in {remaining:.3f} s"
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        if self._timer is None:
            self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                # The token had already been handed over.
                self._bucket.give_back()
            self._waiting.pop(turn, None)
            self._hand_out()
            raise

    def _hand_out(self) -> None:
        """Give tokens to those who have waited longest, and come back when the next one is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            turn = next(iter(self._waiting))
            if not turn.done():
                if not self._bucket.take():
                    break
                turn.set_result(None)
            del self._waiting[turn]
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._bucket.wait_for(1), self._hand_out)
