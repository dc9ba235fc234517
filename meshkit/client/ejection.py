"""When an instance is ejected, for how long, and how it comes back.

Growing ejections are Envoy's outlier detection and gRPC's (proposal A50).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import structlog
from opentelemetry import trace

from meshkit.errors import is_instance_failure
from meshkit.middleware.breaker import HystrixBreaker
from meshkit.middleware.policy import HystrixPolicy

__all__ = ["EJECTION", "instance_breaker", "log_ejection"]

log = structlog.stdlib.get_logger(__name__)

# An instance is ejected when 3 of its answers in a row are failures, however far apart (as Envoy's consecutive errors),
# or 2 of 5 calls within 10 s, for 1 s, then 2, 4 and at most 7 s. It is back after 3 good
# probes in a row, on probation for 10 calls. So a replica that fails half of its calls gets about two calls every 7 s
# (of three coin flips one in eight is passed), and one that has recovered is back within about 7 s. Each probe is a
# user's call, which a Retry repeats elsewhere where it fails.
EJECTION = HystrixPolicy(
    failures_in_a_row=3,
    error_percent=40,
    request_volume=5,
    sleep_window=1.0,
    max_sleep_window=7.0,
    probes=3,
    probation=10,
    max_concurrent=sys.maxsize,
    is_failure=is_instance_failure,
)


def instance_breaker(
    instance: str, policy: HystrixPolicy = EJECTION, *, clock: Callable[[], float] = time.monotonic
) -> HystrixBreaker:
    """Make the breaker of one instance of a service: balancers prefer other instances while it is open.

    Ejections and returns are logged; an ejection is also an event in the trace of the call that led to it.

    Args:
        instance: `host:port`, the breaker's name.
        policy: when it is ejected, for how long, and how it comes back. Default `EJECTION`.
        clock: seconds, monotonic. Default time.monotonic.
    """
    return HystrixBreaker(instance, policy, listeners=(log_ejection,), clock=clock)


def log_ejection(breaker: HystrixBreaker, old: str, new: str) -> None:
    """Log when an instance is ejected and when it is back; failed probes in between are not logged."""
    if old == "closed":
        log.warning("instance ejected", instance=breaker.name)
        trace.get_current_span().add_event(f"instance ejected: {breaker.name}")
    elif new == "closed":
        log.info("instance back", instance=breaker.name)
