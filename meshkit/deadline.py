"""The current call's deadline, carried along in the context, as Go's context.Context does.

A server's interceptors set it from the caller's grpc-timeout, a retry narrows it for each attempt; rate limiters and
outgoing calls read it, however deep they are called. A task that goes on after the call has to call `inherit(None)`
first.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from types import TracebackType

__all__ = ["bounded", "inherit", "narrow", "passed", "remaining", "within"]

_deadline: ContextVar[float | None] = ContextVar("meshkit_deadline", default=None)


def remaining() -> float | None:
    """Seconds left until the current deadline (never negative), None where there is no deadline."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())


def bounded(timeout: float | None) -> float | None:
    """Seconds that an outgoing call may take: its own `timeout`, or less where the current deadline is sooner.

    None where neither bounds it; negative once the deadline has passed, so that gRPC fails the call at once.
    """
    deadline = _deadline.get()
    if deadline is None:
        return timeout
    left = deadline - asyncio.get_running_loop().time()
    return left if timeout is None else min(timeout, left)


def passed() -> bool:
    """Whether there is a current deadline and it has passed: a cancelled call was then too slow, not unwanted."""
    left = remaining()
    # uvloop's timers count whole milliseconds, rounded: one may fire half of one before its time.
    return left is not None and left <= 1e-3


def inherit(seconds: float | None) -> None:
    """Set the caller's deadline for the rest of the current task; None: the caller has set none.

    A hundredth of the time is taken off: gRPC rounds it up by as much on the wire
    (src/core/lib/transport/timeout_encoding.cc), and calls made on the caller's behalf must not outlast it. No timer is
    started: gRPC cancels the task in time.
    """
    _deadline.set(None if seconds is None else asyncio.get_running_loop().time() + seconds * 0.99)


def narrow(seconds: float | None) -> None:
    """Limit the rest of the current task; a sooner deadline stays in force. None: no new limit.

    No timer is started: code that waits asks `remaining()`, or uses `within`.
    """
    _deadline.set(_sooner(seconds))


def _sooner(seconds: float | None) -> float | None:
    """The deadline in force, or the one in so many seconds if that is sooner."""
    deadline = _deadline.get()
    if seconds is None:
        return deadline
    inner = asyncio.get_running_loop().time() + seconds
    return inner if deadline is None else min(deadline, inner)


class within:  # noqa: N801 - reads as the statement that it is: `async with deadline.within(1.0):`
    """Limit the body to a number of seconds, or to the deadline already in force if that is sooner.

    None sets no new limit.

    Raises:
        TimeoutError: the body was cut off.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds

    async def __aenter__(self) -> None:
        deadline = _sooner(self._seconds)
        self._token = _deadline.set(deadline)
        self._timeout = asyncio.timeout_at(deadline)
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _deadline.reset(self._token)
        await self._timeout.__aexit__(kind, error, trace)
