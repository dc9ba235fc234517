"""Waiting for a condition, with a deadline and the last state seen in the error."""

import time
from collections.abc import Callable
from typing import TypeVar

from localmesh.waiting import NotYetError

__all__ = ["NotYetError", "until"]

T = TypeVar("T")


def until(probe: Callable[[], T], *, within: float, what: str, every: float = 0.2) -> T:
    """Ask `probe` until it no longer raises NotYetError, and return its answer; `within` and `every` in seconds.

    Raises:
        TimeoutError: not within the time; the text has the last state seen.
    """
    deadline = time.monotonic() + within
    while True:
        try:
            return probe()
        except NotYetError as state:
            if time.monotonic() + every > deadline:
                raise TimeoutError(f"{what}: not within {within:g} s; last seen: {state}") from None
        time.sleep(every)
