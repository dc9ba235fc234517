"""Who makes the current call, which a limiter needs to treat all callers alike, and whether for the first time."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

__all__ = ["PREVIOUS_ATTEMPTS", "inherit", "peer", "previous_attempts"]

# gRPC's own header (proposal A6): how often the caller has made this call before.
PREVIOUS_ATTEMPTS = "grpc-previous-rpc-attempts"

_peer: ContextVar[Callable[[], str] | None] = ContextVar("meshkit_peer", default=None)
_metadata: ContextVar[Callable[[], Any] | None] = ContextVar("meshkit_metadata", default=None)


def peer() -> str:
    """The connection of the current call, as gRPC names it; "" outside of a server's calls."""
    ask = _peer.get()
    return ask() if ask else ""


def previous_attempts() -> int:
    """How often the caller of the current call has made it before, 0 for the first time and outside of such calls.

    A caller that is itself called for the second time counts as well, see `Retry`.
    """
    ask = _metadata.get()
    for key, value in (ask() or ()) if ask else ():
        if key == PREVIOUS_ATTEMPTS:
            # gRPC makes a number of whatever was sent.
            return int(value)
    return 0


def inherit(ask: Callable[[], str], metadata: Callable[[], Any] | None = None) -> None:
    """Set how the connection is named and what metadata were sent, for the rest of the current task.

    Both are functions, as most calls never need them.
    """
    _peer.set(ask)
    _metadata.set(metadata)
