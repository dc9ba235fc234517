"""When a circuit breaker opens, for how long, and how it closes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from meshkit.errors import is_system_failure

__all__ = ["HystrixChanges", "HystrixPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HystrixPolicy:
    """When a breaker opens, for how long, and how it closes; vary one with `dataclasses.replace`.

    The defaults are hystrix's, except that there is no time limit.

    Args:
        timeout: seconds that a call may take, else BreakerTimeoutError. Default None: no limit of its own.
        error_percent: of calls in the window, above 0 and up to 100, at which it opens. Default 50.
        request_volume: calls in the window below which it never opens. Default 20.
        window: seconds that a call counts for. Default 10.
        failures_in_a_row: at which it opens as well, however far apart the calls are. Default None: it does not.
        sleep_window: seconds from opening to the probe. Default 5.
        max_sleep_window: the sleep window doubles up to this, in seconds, each time that a probe fails or that the
            circuit opens within a `window` of its closing. Default None: it never grows.
        probes: successful probes that close the circuit, one after the other, never two at a time. Default 1.
        probation: the first calls after closing, of which a single failure opens it again. Default 0: none.
        max_concurrent: calls in flight; more fail with MaxConcurrencyError, which counts as failure. Default 10.
        is_failure: which errors count against the circuit. Default `is_system_failure`. Others count as success,
            because the service has answered; those for which it returns None do not count at all.

    Raises:
        ValueError: the error percentage is not in its range.
    """

    timeout: float | None = None
    error_percent: float = 50
    request_volume: int = 20
    window: float = 10.0
    failures_in_a_row: int | None = None
    sleep_window: float = 5.0
    max_sleep_window: float | None = None
    probes: int = 1
    probation: int = 0
    max_concurrent: int = 10
    is_failure: Callable[[Exception], bool | None] = is_system_failure

    def __post_init__(self) -> None:
        if not 0 < self.error_percent <= 100:
            raise ValueError(f"expected an error percentage above 0 and up to 100, got {self.error_percent:g}")


class HystrixChanges(TypedDict, total=False):
    """Fields of a HystrixPolicy, for a breaker that takes them one by one."""

    timeout: float | None
    error_percent: float
    request_volume: int
    window: float
    failures_in_a_row: int | None
    sleep_window: float
    max_sleep_window: float | None
    probes: int
    probation: int
    max_concurrent: int
    is_failure: Callable[[Exception], bool | None]
