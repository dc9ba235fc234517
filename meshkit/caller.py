"""Who makes the current call: a limiter needs it to treat all callers alike."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["inherit", "peer"]

_peer: ContextVar[Callable[[], str] | None] = ContextVar("meshkit_peer", default=None)


def peer() -> str:
    """The connection of the current call, as gRPC names it; "" outside of a server's calls."""
    ask = _peer.get()
    return ask() if ask else ""


def inherit(ask: Callable[[], str]) -> None:
    """Set the function that names the connection, for the rest of the current task; most calls never need it."""
    _peer.set(ask)
