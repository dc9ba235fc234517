"""The current call's deadline, carried along in the context, as Go's context.Context does.

A server sets it from the caller's grpc-timeout, a retry narrows it for each attempt; rate limiters and outgoing
calls read it, however deep they are called.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

__all__ = ["passed", "remaining", "within"]

_deadline: ContextVar[float | None] = ContextVar("meshkit_deadline", default=None)


def remaining() -> float | None:
    """Seconds left until the current deadline (never negative), None where there is no deadline."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())


def passed() -> bool:
    """Whether there is a current deadline and it has passed: a cancelled call was then too slow, not unwanted."""
    left = remaining()
    # A timer may fire a rounding error before its time.
    return left is not None and left <= 1e-6


@asynccontextmanager
async def within(seconds: float | None) -> AsyncIterator[None]:
    """Bound the body to so many seconds, or to the deadline already in force where that is sooner.

    None sets no new bound.

    Raises:
        TimeoutError: the body was cut off.
    """
    outer = _deadline.get()
    inner = None if seconds is None else asyncio.get_running_loop().time() + seconds
    deadline = min((d for d in (outer, inner) if d is not None), default=None)
    token = _deadline.set(deadline)
    try:
        async with asyncio.timeout_at(deadline):
            yield
    finally:
        _deadline.reset(token)
