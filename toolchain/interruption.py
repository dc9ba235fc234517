"""Ctrl-C, SIGTERM and SIGHUP as an exception, which comes where it can be dealt with and never while cleaning up."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = b"\ncleaning up already; half of it left behind would be worse than a moment's wait\n"

_active: list[Interruptions] = []


class Interrupted(BaseException):
    """A signal asked the program to end.

    Args:
        number: the signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"interrupted by {number.name}")
        self.number = number

    @property
    def status(self) -> int:
        """The exit status that stands for it, as in shells."""
        return 128 + self.number


class Interruptions:
    """Takes the signals for as long as its `with` block goes on; for the main thread.

    A signal raises `Interrupted` inside an `armed` block, once. Elsewhere it is remembered, so that what undoes the
    armed block's work, outside of it, runs to its end:

        with Interruptions() as interruptions, ExitStack() as undo:
            with interruptions.armed():
                undo.callback(delete)
                create()

    A signal that the process was told to ignore (by nohup, say) stays ignored.
    """

    def __init__(self) -> None:
        self._armed = False
        self._pending: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._on_signal)
        _active.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _active.remove(self)
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type] # as getsignal() gave it

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Let a signal raise `Interrupted` until the block ends; one that came before it does so at once."""
        if self._pending is not None:
            raise Interrupted(self._pending)
        self._armed = True
        try:
            yield
        finally:
            self._armed = False

    @contextmanager
    def _deferred(self) -> Iterator[None]:
        armed, self._armed = self._armed, False
        try:
            yield
        finally:
            self._armed = armed
        if armed and self._pending is not None:
            self._armed = False
            raise Interrupted(self._pending)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        asked_before, self._pending = self._pending is not None, signal.Signals(number)
        if self._armed:
            self._armed = False
            raise Interrupted(self._pending)
        if asked_before:
            os.write(2, _PATIENCE)


@contextmanager
def deferred() -> Iterator[None]:
    """Have a signal wait for the block's end; for steps that must be whole, such as starting a program."""
    if not _active:
        yield
        return
    with _active[-1]._deferred():  # noqa: SLF001 - this module's own
        yield
