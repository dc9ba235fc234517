"""Tasks in the background, whose owners end them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

__all__ = ["end_task", "end_tasks"]


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended.

    Not `suppress(CancelledError)` around an `await`, which would swallow a cancellation of the waiting task too.

    Raises:
        Exception: the one that the task had failed with, if it had.
    """
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Exception):
        raise outcome


async def end_tasks(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until all have ended, however they end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
