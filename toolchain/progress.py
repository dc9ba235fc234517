"""What a set-up shows while it works: bars in a terminal, one line a step elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from collections.abc import Iterator


class Meter(Protocol):
    """How far one step has come."""

    def reached(self, amount: float, note: str = "") -> None:
        """Tell the amount done so far (bytes or packages), and optionally what is being done now."""


class Progress(Protocol):
    """Where a source reports to."""

    def step(self, text: str, *, total: float | None = None, in_bytes: bool = False) -> Meter:
        """Begin a step, which ends the one before it.

        Args:
            text: what is being done.
            total: the amount that completes it; None if unknown.
            in_bytes: whether amounts are bytes, else a plain count.
        """


class _BarMeter:
    def __init__(self, bars: Bars, text: str, total: float | None) -> None:
        self._bars = bars
        self._text = text
        self._bar = bars.add_task(text, total=total)

    def reached(self, amount: float, note: str = "") -> None:
        shown = f"{self._text} [dim]{escape(note)}[/]" if note else self._text
        self._bars.update(self._bar, completed=amount, description=shown)


class _SilentMeter:
    def reached(self, amount: float, note: str = "") -> None:
        """Show nothing: the step's line has been printed."""


class _Terminal:
    """One bar at a time, gone when its step ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: Bars | None = None

    def step(self, text: str, *, total: float | None = None, in_bytes: bool = False) -> Meter:
        self.close()
        amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            *((BarColumn(), amount) if total is not None else ()),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._bars.start()
        return _BarMeter(self._bars, escape(text), total)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console

    def step(self, text: str, *, total: float | None = None, in_bytes: bool = False) -> Meter:  # noqa: ARG002
        self._console.print(f"{text} …", markup=False, highlight=False, soft_wrap=True)
        return _SilentMeter()

    def close(self) -> None:
        """Leave nothing open: lines need no end."""


@contextmanager
def showing() -> Iterator[Progress]:
    """Show progress on standard error until the block ends."""
    console = Console(stderr=True)
    shown = _Terminal(console) if console.is_terminal else _Lines(console)
    try:
        yield shown
    finally:
        shown.close()
