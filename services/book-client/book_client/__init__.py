"""The book client: the calls, their tally, and the program that makes them through the mesh."""

from __future__ import annotations

import os
import signal

__all__ = ["end_at_signals", "main"]


def end_at_signals() -> None:
    """Let a signal end the program until `stop_signal` takes over: while it starts, there is nothing to finish.

    Before all imports that take long: to process 1 of a container the kernel delivers no signal without a handler.
    A SIGHUP that is ignored (nohup) stays ignored.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(128 + number))


def main() -> None:
    """Entry point of the console script."""
    end_at_signals()
    from book_client.__main__ import main as run  # noqa: PLC0415 - takes most of a second

    run()
