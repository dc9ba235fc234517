"""Waiting for a condition without an event loop, by the rule of `localmesh.waiting`."""

import time
from collections.abc import Callable
from typing import TypeVar

from localmesh.waiting import NotYetError, Wait

__all__ = ["NotYetError", "until"]

T = TypeVar("T")


def until(probe: Callable[[], T], *, within: float, what: str, every: float = 0.2) -> T:
    """Ask `probe` until it no longer raises NotYetError, and return its answer; `within` and `every` in seconds.

    Raises:
        TimeoutError: not within the time; the text has the last state seen.
    """
    wait = Wait(what, within, every)
    while True:
        try:
            return probe()
        except NotYetError as error:
            state = error
        wait.not_yet(state)
        time.sleep(every)
