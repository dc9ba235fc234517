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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Unpack

import pybreaker
import structlog

from meshkit import deadline
from meshkit.endpoint import Endpoint, Request, Response
from meshkit.errors import BreakerOpenError, BreakerTimeoutError, MaxConcurrencyError
from meshkit.middleware.policy import HystrixChanges, HystrixPolicy
from meshkit.middleware.rolling import RollingCounts

__all__ = ["HystrixBreaker", "StateListener"]

log = structlog.stdlib.get_logger(__name__)

# Takes the breaker, its old state and its new one: `closed`, `open` or `half-open`.
StateListener = Callable[["HystrixBreaker", str, str], object]


class _Relay(pybreaker.CircuitBreakerListener):
    """Tells a breaker's listeners of its changes of state."""

    def __init__(self, breaker: HystrixBreaker, listeners: list[StateListener]) -> None:
        self._breaker = breaker
        self._listeners = listeners

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:  # noqa: ARG002 - pybreaker's interface
        for listener in tuple(self._listeners):
            try:
                listener(self._breaker, old_state.name, new_state.name)
            except Exception:
                # A listener's error must not stop the change halfway.
                log.exception("listener failed", breaker=self._breaker.name, state=new_state.name)


class HystrixBreaker:
    """A circuit breaker for asyncio; a middleware: `breaker(endpoint)` is the guarded endpoint.

    Closed, it lets calls through and counts them. Once at least `request_volume` calls fell into the rolling window
    and `error_percent` or more of them failed, it opens: calls fail at once with BreakerOpenError. After
    `sleep_window` the next call, and only that one, is let through as a probe: its success closes the circuit and
    clears the counts, its failure opens it for another sleep window. Results of calls that began in an earlier state
    are ignored. A call that its deadline cuts off is a failure; one that its caller cancels does not count at all.

    Args:
        name: appears in its errors.
        policy: when it opens, for how long, and how it closes. Default: hystrix's defaults.
        listeners: called at each change of state, on the event loop: they must not block.
        clock: seconds, monotonic. Default time.monotonic.
        changes: single fields of the policy, as in `dataclasses.replace`.

    Raises:
        ValueError: see `HystrixPolicy`.
    """

    def __init__(
        self,
        name: str,
        policy: HystrixPolicy | None = None,
        *,
        listeners: Sequence[StateListener] = (),
        clock: Callable[[], float] = time.monotonic,
        **changes: Unpack[HystrixChanges],
    ) -> None:
        self.name = name
        self.policy = policy = replace(policy or HystrixPolicy(), **changes)
        self._listeners = list(listeners)
        # pybreaker's own counting is switched off: it must not change the state by itself.
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=sys.maxsize, listeners=[_Relay(self, self._listeners)], throw_new_error_on_trip=False
        )
        # The circuit's own `current_state` goes through three look-ups, and each call asks several times.
        self._state: str = pybreaker.STATE_CLOSED
        self._sleep_window = policy.sleep_window
        self._on_probation = 0
        self._in_a_row = 0
        self._passed = 0
        self._probing = False
        # Why it opened last: `consecutive_failures`, `failure_percentage`, `probation`, or `other`: told to.
        self.opened_by = "other"
        self._clock = clock
        self._counts = RollingCounts(policy.window, clock)
        self._in_flight = 0
        self._opened_at = self._closed_at = -math.inf
        # Counts the changes of state: a result only counts in the state in which its call began.
        self._generation = 0

    def __call__(self, endpoint: Endpoint[Request, Response]) -> Endpoint[Request, Response]:
        """Wrap an endpoint."""

        async def guarded(request: Request) -> Response:
            return await self.call_async(endpoint, request)

        return guarded

    async def call_async(self, func: Callable[..., Awaitable[Response]], *args: Any, **kwargs: Any) -> Response:
        """Call `func` through the breaker.

        Raises:
            BreakerOpenError: the circuit is open, or its probe is under way.
            MaxConcurrencyError: `max_concurrent` calls are in flight.
            BreakerTimeoutError: it took longer than `timeout`.
        """
        generation = self._admit()
        self._in_flight += 1
        limit: asyncio.Timeout | None = None
        failed: bool | None = None
        try:
            if self.policy.timeout is None:
                result = await func(*args, **kwargs)
            else:
                async with asyncio.timeout(self.policy.timeout) as limit:
                    result = await func(*args, **kwargs)
        except asyncio.CancelledError:
            failed = deadline.passed() or None
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and limit is not None and limit.expired():
                error = BreakerTimeoutError(f"breaker {self.name}: no answer within {self.policy.timeout:g} s")
            failed = self._is_failure(error)
            raise error  # noqa: TRY201 - it may be the one made here
        else:
            failed = False
            return result
        finally:
            # However the call ended: without this, a lost probe would keep the circuit from ever closing.
            self._in_flight -= 1
            if generation == self._generation:
                self._settle(failed=failed)

    @property
    def current_state(self) -> str:
        """`closed`, `open` or `half-open`."""
        return self._state

    @property
    def sleep_left(self) -> float:
        """Seconds until it lets a probe through; 0 unless it is open."""
        if self._state != pybreaker.STATE_OPEN:
            return 0.0
        return max(0.0, self._opened_at + self._sleep_window - self._clock())

    @property
    def on_probation(self) -> bool:
        """Whether the next failure opens it: while half-open, and for `probation` calls after that."""
        if self._state == pybreaker.STATE_CLOSED:
            return self._on_probation > 0
        return self._state == pybreaker.STATE_HALF_OPEN

    def listen(self, listener: StateListener) -> None:
        """Add a listener; see the parameter `listeners`."""
        self._listeners.append(listener)

    @property
    def ready(self) -> bool:
        """Whether a call would be let through now."""
        state = self._state
        if state == pybreaker.STATE_CLOSED:
            return self._in_flight < self.policy.max_concurrent
        return not self._probing if state == pybreaker.STATE_HALF_OPEN else self._slept()

    def open(self) -> None:
        """Open the circuit for a sleep window."""
        now = self._clock()
        if self._state == pybreaker.STATE_HALF_OPEN or now < self._closed_at + self.policy.window:
            self._sleep_window = min(self._sleep_window * 2, self.policy.max_sleep_window or self.policy.sleep_window)
        else:
            self._sleep_window = self.policy.sleep_window
        self._opened_at = now
        self._generation += 1
        self._state = pybreaker.STATE_OPEN
        self._circuit.open()

    def half_open(self) -> None:
        """Let probes through, one at a time."""
        self._generation += 1
        self._passed, self._probing = 0, False
        self._state = pybreaker.STATE_HALF_OPEN
        self._circuit.half_open()

    def close(self) -> None:
        """Close the circuit and forget all failures."""
        self._counts.clear()
        self._in_a_row = 0
        self._closed_at = self._clock()
        self._generation += 1
        self._state = pybreaker.STATE_CLOSED
        self._circuit.close()

    def note_failure(self) -> None:
        """Count a failure that is known only later: its call ended with a status that does not count by itself."""
        if self._state != pybreaker.STATE_OPEN:
            self._count(failed=True)

    def _slept(self) -> bool:
        return self._clock() >= self._opened_at + self._sleep_window

    def _admit(self) -> int:
        """Let a call through, perhaps as the probe, and return the generation that it belongs to."""
        if self._state == pybreaker.STATE_OPEN and self._slept():
            self.half_open()
            self._probing = True
        elif self._state == pybreaker.STATE_HALF_OPEN and not self._probing:
            self._probing = True
        elif self._state != pybreaker.STATE_CLOSED:
            left = self.sleep_left
            waits_for = f"probe in {left:.1f} s" if left else "probe under way"
            raise BreakerOpenError(f"breaker {self.name} is open: {waits_for}")
        elif self._in_flight >= self.policy.max_concurrent:
            self._count(failed=True)
            raise MaxConcurrencyError(f"breaker {self.name}: {self.policy.max_concurrent} calls are in flight already")
        return self._generation

    def _is_failure(self, error: Exception) -> bool | None:
        try:
            return self.policy.is_failure(error)
        except Exception:
            log.exception("error not judged: taken for a failure", breaker=self.name, error=repr(error))
            return True

    def _settle(self, *, failed: bool | None) -> None:
        """A call of this generation has ended; None: with nothing to count."""
        if failed is not None:
            self._count(failed=failed)
        elif self._state == pybreaker.STATE_HALF_OPEN:
            # The next call is the probe instead.
            self._probing = False

    def _count(self, *, failed: bool) -> None:
        if self._state == pybreaker.STATE_HALF_OPEN:
            self._passed, self._probing = self._passed + 1, False
            if failed:
                self.open()
            elif self._passed >= self.policy.probes:
                self.close()
                self._on_probation = self.policy.probation
            return
        self._counts.add(failed=failed)
        self._in_a_row = self._in_a_row + 1 if failed else 0
        if failed and (reason := "probation" if self._on_probation else self._failing()):
            self.opened_by = reason
            self.open()
        elif self._on_probation:
            self._on_probation -= 1

    def _failing(self) -> str | None:
        if self.policy.failures_in_a_row and self._in_a_row >= self.policy.failures_in_a_row:
            return "consecutive_failures"
        calls, failures = self._counts.totals()
        if calls >= self.policy.request_volume and failures * 100 >= self.policy.error_percent * calls:
            return "failure_percentage"
        return None
