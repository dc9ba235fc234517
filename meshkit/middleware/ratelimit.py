"""Token-bucket rate limiters: one lets calls wait for their token, one refuses them.

The bucket is that of golang.org/x/time/rate: it holds `burst` tokens, starts full, and gains `rate` a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from meshkit import caller, deadline
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
        """Seconds until the bucket has a number of tokens, including those that it has now."""
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
    """A middleware that makes calls wait for a token: callers take turns, and the calls of each are served in order.

    A caller is a connection to the server (`meshkit.caller`), so a caller with many calls delays another one by a
    single turn. Outside of a server all calls have one caller.

    A call whose token cannot come before its deadline fails at once, with RateLimitedError (RESOURCE_EXHAUSTED):
    waiting would be useless. A call that is cancelled while it waits gives its place to the next.

    Args:
        bucket: of the tokens.
        max_waiting: calls that wait at a time, each for some 16 KiB of memory. One more fails at once, or replaces the
            last call of the caller that has the most. Default 1,000.
        max_wait: seconds that a call without a deadline waits at most. Default 120: a connection's 100 calls at one a
            second.
    """

    def __init__(self, bucket: TokenBucket, *, max_waiting: int = 1000, max_wait: float = 120.0) -> None:
        if max_waiting < 1:
            raise ValueError(f"expected room for at least 1 call that waits, got {max_waiting}")
        self._bucket = bucket
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        # The callers in the order of their turns, each with its calls: dicts for O(1) leaving from the middle.
        self._callers: dict[str, dict[asyncio.Future[None], None]] = {}
        self._waiting = 0
        # Calls so far that had to wait, and that were refused.
        self.delayed = self.refused = 0
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, endpoint: Endpoint[Request, Response]) -> Endpoint[Request, Response]:
        """Wrap an endpoint; all endpoints wrapped by one limiter share its bucket and its queue."""

        async def limited(request: Request) -> Response:
            await self.acquire()
            return await endpoint(request)

        return limited

    @property
    def waiting(self) -> int:
        """Calls that wait for a token now."""
        return self._waiting

    async def acquire(self) -> None:
        """Wait for a token.

        Raises:
            RateLimitedError: it would come after the current deadline, or too many calls wait.
        """
        if not self._waiting and self._bucket.take():
            return
        peer = caller.peer()
        self._check_wait(peer)
        if self._waiting >= self._max_waiting:
            self._make_room(peer)
        turn = asyncio.get_running_loop().create_future()
        self._callers.setdefault(peer, {})[turn] = None
        self._waiting += 1
        self.delayed += 1
        if self._timer is None:
            self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # The token had already been handed over.
                self._bucket.give_back()
            self._remove(peer, turn)
            self._hand_out()
            raise

    def _check_wait(self, peer: str) -> None:
        # Calls before it: all of its own caller's, and as many of each other caller's, as they take turns.
        own = len(self._callers.get(peer, ()))
        others = sum(min(len(calls), own + 1) for name, calls in self._callers.items() if name != peer)
        wait = self._bucket.wait_for(own + others + 1)
        left = deadline.remaining()
        if wait > (self._max_wait if left is None else left):
            self.refused += 1
            limit = f"at most {self._max_wait:g} s are waited" if left is None else f"the deadline is in {left:.3f} s"
            raise RateLimitedError(
                f"rate limit of {self._bucket.rate:g} calls/s: a token would take {wait:.3f} s, {limit}"
            )

    def _make_room(self, peer: str) -> None:
        """Refuse the last call of the caller that has the most, or else the new one."""
        self.refused += 1
        refusal = RateLimitedError(f"rate limit of {self._bucket.rate:g} calls/s: {self._waiting} calls wait already")
        most = max(self._callers, key=lambda name: len(self._callers[name]))
        if len(self._callers[most]) <= len(self._callers.get(peer, ())) + 1:
            raise refusal
        last = next(reversed(self._callers[most]))
        self._remove(most, last)
        if not last.done():
            last.set_exception(refusal)

    def _remove(self, peer: str, turn: asyncio.Future[None]) -> None:
        calls = self._callers.get(peer, {})
        if turn in calls:
            del calls[turn]
            self._waiting -= 1
            if not calls:
                del self._callers[peer]

    def _hand_out(self) -> None:
        """Give tokens to the callers in turn, and come back when the next one is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            peer, calls = next(iter(self._callers.items()))
            turn = next(iter(calls))
            if not turn.done():
                if not self._bucket.take():
                    break
                turn.set_result(None)
                # Its next call waits until the others have had a turn.
                self._callers[peer] = self._callers.pop(peer)
            self._remove(peer, turn)
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._bucket.wait_for(1), self._hand_out)
