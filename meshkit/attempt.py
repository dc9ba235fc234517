"""Which attempt of which call is under way, to tag or log it."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Attempt", "current_attempt"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The `number`-th try of a call, counted from 1, and the instance (`host:port`) it goes to."""

    number: int
    instance: str


current_attempt: ContextVar[Attempt | None] = ContextVar("meshkit_attempt", default=None)
