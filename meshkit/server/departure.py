"""How a server tells its streams that it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["leaving"]

_leaving: ContextVar[asyncio.Event | None] = ContextVar("meshkit_leaving", default=None)


def leaving() -> asyncio.Event:
    """Set once the server of the current call leaves: a stream that would go on for ever ends by it, in good order.

    Clients have heard by then that the server is gone, so that one that begins the stream anew reaches another. What
    has not ended within the server's `grace` is cancelled. Outside of a call of `serve` it is never set.
    """
    return _leaving.get() or asyncio.Event()


@contextmanager
def told_to_leave(event: asyncio.Event) -> Iterator[None]:
    """Make `leaving` this event in all calls of a server that is started in the body: its tasks inherit the context."""
    token = _leaving.set(event)
    try:
        yield
    finally:
        _leaving.reset(token)
