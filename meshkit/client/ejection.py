"""When an instance is ejected, for how long, and how it comes back.

Growing ejections are Envoy's outlier detection and gRPC's (proposal A50).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pybreaker
import structlog
from opentelemetry import trace

from meshkit.middleware.breaker import HystrixBreaker

__all__ = ["EjectionListener", "instance_breaker"]

log = structlog.stdlib.get_logger(__name__)


def instance_breaker(
    instance: str, listeners: Sequence[pybreaker.CircuitBreakerListener] = (), **options: Any
) -> HystrixBreaker:
    """A breaker for one instance of a service, as an Endpointer keeps them: whoever picks prefers the others.

    It opens when 2 of 5 calls within 10 s fail, for 1 s, then 2, 4 and at most 7 s, and closes after 3 good probes in a
    row, on probation for 10 calls. So a replica that fails half of its calls gets about two calls every 7 s (of three
    coin flips one in eight is passed), and one that has recovered is back within about 7 s. Each probe is a user's
    call, which a Retry repeats elsewhere where it fails. Growing ejections are Envoy's outlier detection and gRPC's
    (proposal A50).

    Args:
        instance: the breaker's name.
        listeners: hear of its states.
        options: of HystrixBreaker, instead of those above.
    """
    defaults: dict[str, Any] = {
        "timeout": None,
        "error_percent": 40,
        "request_volume": 5,
        "sleep_window": 1.0,
        "max_sleep_window": 7.0,
        "probes": 3,
        "probation": 10,
        "max_concurrent": sys.maxsize,
    }
    return HystrixBreaker(instance, listeners=listeners, **(defaults | options))


class EjectionListener(pybreaker.CircuitBreakerListener):
    """Says when an instance is ejected and when it is back; the failed probes in between say nothing."""

    def __init__(self, instance: str) -> None:
        self._instance = instance

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:  # noqa: ARG002 - pybreaker's interface
        """See pybreaker.CircuitBreakerListener."""
        if old_state is None:
            return
        if old_state.name == pybreaker.STATE_CLOSED:
            log.warning("instance ejected", instance=self._instance)
            trace.get_current_span().add_event(f"instance ejected: {self._instance}")
        elif new_state.name == pybreaker.STATE_CLOSED:
            log.info("instance back", instance=self._instance)
