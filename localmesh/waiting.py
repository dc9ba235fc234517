"""Waiting for a condition with a deadline, and the last state seen in the error."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


class NotYetError(Exception):
    """What is waited for is not there yet; the text is the state seen."""


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
    deadline = time.monotonic() + within
    last = "nothing: the first question had no answer"
    while True:
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                return await _shielded(probe)
        except NotYetError as state:
            last = str(state)
        except TimeoutError:
            pass
        if time.monotonic() + every > deadline:
            raise TimeoutError(f"{what}: not within {within:g} s; last seen: {last}")
        await asyncio.sleep(every)


async def _shielded(probe: Callable[[], Awaitable[T]]) -> T:
    """A probe's own TimeoutError must not pass for ours."""
    try:
        return await probe()
    except TimeoutError as error:
        raise NotYetError(f"a timeout: {error}") from error
