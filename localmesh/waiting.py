"""Waiting for a condition with a deadline, and the last state seen in the error."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

__all__ = ["NotYetError", "Wait", "until"]

T = TypeVar("T")


class NotYetError(Exception):
    """What is waited for is not there yet; the text is the state seen."""


class Wait:
    """How long to wait for something, and what to say when it does not come.

    Args:
        what: What is waited for.
        within: Seconds until giving up.
        every: Seconds between two questions.
    """

    def __init__(self, what: str, within: float, every: float) -> None:
        self.every = every
        self._what = what
        self._within = within
        self._deadline = time.monotonic() + within
        self._last: object = "nothing: the first question had no answer"

    @property
    def left(self) -> float:
        """Seconds until giving up; at least 1 ms."""
        return max(self._deadline - time.monotonic(), 0.001)

    def not_yet(self, state: object = None) -> None:
        """Say that it is not there, and what was seen instead; None: no answer.

        Raises:
            TimeoutError: The next question would come too late; the text has the last state seen.
        """
        self._last = self._last if state is None else state
        if time.monotonic() + self.every > self._deadline:
            raise TimeoutError(f"{self._what}: not within {self._within:g} s; last seen: {self._last}")


async def until(
    probe: Callable[[], Awaitable[T]],
    *,
    within: float,
    what: str,
    every: float = 0.05,
) -> T:
    """Ask `probe` again and again until it returns, and return its answer.

    Args:
        probe: Returns the answer, or raises NotYetError with the state seen. Any other error goes through.
        within: Seconds until giving up. A probe under way then is cancelled.
        what: What is waited for, for the error's text.
        every: Seconds between two questions.

    Raises:
        TimeoutError: Not within the time; the text has the last state seen.
    """
    wait = Wait(what, within, every)
    while True:
        seen = None
        try:
            async with asyncio.timeout(wait.left):
                return await _shielded(probe)
        except NotYetError as state:
            seen = state
        except TimeoutError:
            pass
        wait.not_yet(seen)
        await asyncio.sleep(every)


async def _shielded(probe: Callable[[], Awaitable[T]]) -> T:
    """A probe's own TimeoutError must not pass for ours."""
    try:
        return await probe()
    except TimeoutError as error:
        raise NotYetError(f"a timeout: {error}") from error
