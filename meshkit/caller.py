"""Who makes the current call, for whoever wants to treat callers alike."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["inherit", "peer"]

_peer: ContextVar[Callable[[], str] | None] = ContextVar("meshkit_peer", default=None)


def peer() -> str:
    """The connection that the current call has come by, as gRPC names it; "" outside of a server's calls."""
    ask = _peer.get()
    return ask() if ask else ""


def inherit(ask: Callable[[], str]) -> None:
    """Take over how to ask for the connection, for the rest of the current task: most calls never need to know."""
    _peer.set(ask)
