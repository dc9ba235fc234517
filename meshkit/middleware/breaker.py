"""A circuit breaker with hystrix's semantics, on pybreaker's states and listeners.

Why not pybreaker's own rules: it counts failures in a row where hystrix takes a percentage over a rolling window;
its `call()` holds a lock for as long as the guarded call takes, so that calls run one after the other; and its
`calling()` lets every call through while half-open, where hystrix lets one.

Source of the semantics: Netflix, "Hystrix: How it Works", and afex/hystrix-go, which go-kit uses.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import pybreaker

from meshkit import deadline
from meshkit.endpoint import Endpoint, Request, Response
from meshkit.errors import BreakerOpenError, BreakerTimeoutError, MaxConcurrencyError, status_of

__all__ = ["HystrixBreaker", "is_system_failure"]

# Answers that say nothing about the service's health: the caller's own doing, or a limiter at work.
NOT_A_FAILURE = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)


def is_system_failure(error: Exception) -> bool:
    """Whether an error speaks against the service's health: UNAVAILABLE, INTERNAL, UNKNOWN and the like."""
    return status_of(error) not in NOT_A_FAILURE


class RollingCounts:
    """Counts of the last `window` seconds, in ten buckets that expire one by one."""

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


class HystrixBreaker(pybreaker.CircuitBreaker):
    """A circuit breaker for asyncio; a middleware: `breaker(endpoint)` is the guarded endpoint.

    Closed, it lets calls through and counts them. Once at least `request_volume` calls fell into the rolling window
    and `error_percent` or more of them failed, it opens: calls fail at once with BreakerOpenError. After
    `sleep_window` the next call, and only that one, is let through as a probe: its success closes the circuit and
    clears the counts, its failure opens it for another sleep window. Results of calls that began in an earlier state
    are ignored. A call that its deadline cuts off is a failure; one that its caller cancels does not count at all.
    States and listeners are pybreaker's (`current_state`, `add_listener`, `open()`, `close()`);
    listeners run on the event loop and must not block.

    Args:
        timeout: seconds that a call may take, else BreakerTimeoutError. Default 1 (this one and those below are
            hystrix's); None: no limit of its own.
        error_percent: of calls in the window, 1..100, at which it opens. Default 50.
        sleep_window: seconds from opening to the probe. Default 5.
        max_sleep_window: the sleep window doubles up to this, in seconds, each time that a probe fails or that the
            circuit opens within a `window` of its closing. Default: `sleep_window`, it never grows.
        probes: successful probes that close the circuit, one after the other, never two at a time. Default 1.
        probation: calls after the closing of which one that fails opens it again at once. Default 0: none is.
        max_concurrent: calls in flight; more fail with MaxConcurrencyError, which counts as failure. Default 10.
        request_volume: calls in the window below which it never opens. Default 20.
        window: seconds that a call counts for. Default 10.
        is_failure: which errors count against the circuit. Default `is_system_failure`. Others count as success:
            the service has answered.
        listeners: pybreaker.CircuitBreakerListener objects.
        clock: seconds, monotonic. Default time.monotonic.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout: float | None = 1.0,
        error_percent: float = 50,
        sleep_window: float = 5.0,
        max_sleep_window: float | None = None,
        probes: int = 1,
        probation: int = 0,
        max_concurrent: int = 10,
        request_volume: int = 20,
        window: float = 10.0,
        is_failure: Callable[[Exception], bool] = is_system_failure,
        listeners: Sequence[pybreaker.CircuitBreakerListener] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # pybreaker's own counting is switched off: it must neither trip nor reset anything by itself.
        super().__init__(
            fail_max=sys.maxsize,
            reset_timeout=sleep_window,
            listeners=listeners,
            name=name,
            throw_new_error_on_trip=False,
        )
        if not 0 < error_percent <= 100:
            raise ValueError(f"expected an error percentage above 0 and up to 100, got {error_percent:g}")
        self._timeout = timeout
        self._error_percent = error_percent
        self._sleep_window = self._least_sleep_window = sleep_window
        self._max_sleep_window = sleep_window if max_sleep_window is None else max_sleep_window
        self._probes = probes
        self._probation = probation
        self._on_probation = 0
        self._passed = 0
        self._probing = False
        self._max_concurrent = max_concurrent
        self._request_volume = request_volume
        self._is_failure = is_failure
        self._clock = clock
        self._counts = RollingCounts(window, clock)
        self._window = window
        self._in_flight = 0
        self._opened_at = self._closed_at = -math.inf
        # Counts the changes of state: a result is heeded only in the state in which its call began.
        self._generation = 0

    def __call__(self, endpoint: Endpoint[Request, Response]) -> Endpoint[Request, Response]:  # type: ignore[override]
        """Wrap an endpoint."""

        async def guarded(request: Request) -> Response:
            return await self.call_async(endpoint, request)

        return guarded

    def call(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        """Not for asyncio: see `call_async`."""
        raise TypeError("HystrixBreaker guards coroutines: use call_async(), or wrap an endpoint with it")

    async def call_async(self, func: Callable[..., Awaitable[Response]], *args: Any, **kwargs: Any) -> Response:
        """Call `func` through the breaker.

        Raises:
            BreakerOpenError: the circuit is open, or its probe is under way.
            MaxConcurrencyError: `max_concurrent` calls are in flight.
            BreakerTimeoutError: it took longer than `timeout`.
        """
        generation = self._admit()
        try:
            for listener in self._listeners:
                listener.before_call(self, func, *args, **kwargs)
        except BaseException:
            # The call is not made, which says nothing of the service; were it the probe, the next call is.
            self._forget(generation)
            raise
        self._in_flight += 1
        limit: asyncio.Timeout | None = None
        try:
            if self._timeout is None:
                result = await func(*args, **kwargs)
            else:
                async with asyncio.timeout(self._timeout) as limit:
                    result = await func(*args, **kwargs)
        except asyncio.CancelledError:
            if deadline.passed():
                self._record(generation, TimeoutError("the deadline has passed"))
            else:
                self._forget(generation)
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and limit is not None and limit.expired():
                error = BreakerTimeoutError(f"breaker {self.name}: no answer within {self._timeout:g} s")
            self._record(generation, error if self._is_failure(error) else None)
            raise error  # noqa: TRY201 - it may be the one made here
        else:
            self._record(generation, None)
            return result
        finally:
            self._in_flight -= 1

    @property
    def ready(self) -> bool:
        """Whether a call would be let through now."""
        state = self._state_storage.state
        if state == pybreaker.STATE_CLOSED:
            return self._in_flight < self._max_concurrent
        return not self._probing if state == pybreaker.STATE_HALF_OPEN else self._slept()

    def open(self) -> bool:
        """Open the circuit for a sleep window."""
        now = self._clock()
        if self.current_state == pybreaker.STATE_HALF_OPEN or now < self._closed_at + self._window:
            self._sleep_window = min(self._sleep_window * 2, self._max_sleep_window)
        else:
            self._sleep_window = self._least_sleep_window
        self._opened_at = now
        self._generation += 1
        return super().open()

    def half_open(self) -> None:
        """Let probes through, one at a time."""
        self._generation += 1
        self._passed, self._probing = 0, False
        super().half_open()

    def close(self) -> None:
        """Close the circuit, with no failure on its record."""
        self._counts.clear()
        self._closed_at = self._clock()
        self._generation += 1
        super().close()

    def _slept(self) -> bool:
        return self._clock() >= self._opened_at + self._sleep_window

    def _admit(self) -> int:
        """Let a call through, as the probe if need be, and tell the generation that it belongs to."""
        if self.current_state == pybreaker.STATE_OPEN and self._slept():
            self.half_open()
            self._probing = True
        elif self.current_state == pybreaker.STATE_HALF_OPEN and not self._probing:
            self._probing = True
        elif self.current_state != pybreaker.STATE_CLOSED:
            left = max(0.0, self._opened_at + self._sleep_window - self._clock())
            waits_for = f"probe in {left:.1f} s" if left else "probe under way"
            raise BreakerOpenError(f"breaker {self.name} is open: {waits_for}")
        elif self._in_flight >= self._max_concurrent:
            error = MaxConcurrencyError(f"breaker {self.name}: {self._max_concurrent} calls are in flight already")
            self._record(self._generation, error)
            raise error
        return self._generation

    def _record(self, generation: int, failure: Exception | None) -> None:
        try:
            # First, as in pybreaker: what they hear of next may be the change of state that this result leads to.
            for listener in self._listeners:
                if failure is None:
                    listener.success(self)
                else:
                    listener.failure(self, failure)
        finally:
            # Whatever a listener raises: a probe that is never counted would keep the circuit from closing for ever.
            if generation == self._generation:
                self._count(failed=failure is not None)

    def _count(self, *, failed: bool) -> None:
        if self.current_state == pybreaker.STATE_HALF_OPEN:
            self._passed, self._probing = self._passed + 1, False
            if failed:
                self.open()
            elif self._passed >= self._probes:
                self.close()
                self._on_probation = self._probation
            return
        self._counts.add(failed=failed)
        if failed and (self._on_probation or self._failing()):
            self.open()
        elif self._on_probation:
            self._on_probation -= 1

    def _failing(self) -> bool:
        calls, failures = self._counts.totals()
        return calls >= self._request_volume and failures * 100 >= self._error_percent * calls

    def _forget(self, generation: int) -> None:
        """The caller gave up; where that was the probe, let the next call be it."""
        if generation == self._generation:
            self._probing = False
