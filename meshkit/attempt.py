"""Which attempt of which call is under way, to tag or log it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from meshkit import caller

__all__ = ["Attempt", "current_attempt", "repetition"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The `number`-th try of a call, counted from 1, and the instance (`host:port`) it goes to."""

    number: int
    instance: str


current_attempt: ContextVar[Attempt | None] = ContextVar("meshkit_attempt", default=None)


def repetition() -> tuple[tuple[str, str], ...]:
    """The header of an outgoing call that is made again, or made for a call that is: how often it was made before.

    The one who is called then leaves retries to his caller, see `Retry`; so those of nested tiers do not multiply.
    """
    attempt = current_attempt.get()
    before = attempt.number - 1 if attempt else 0
    if not (before := before or caller.previous_attempts()):
        return ()
    return ((caller.PREVIOUS_ATTEMPTS, str(before)),)
