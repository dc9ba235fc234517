"""What a program runs on: its event loop, and the signals that stop it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import structlog

__all__ = ["run_async", "stop_signal"]

log = structlog.stdlib.get_logger(__name__)

Result = TypeVar("Result")


def run_async(main: Coroutine[Any, Any, Result]) -> Result:
    """Do what asyncio.run does, on uvloop where it is installed: a call then takes a fifth less CPU on either side.

    uvloop's clock counts whole milliseconds: a deadline may come half of one early.
    """
    try:
        import uvloop  # noqa: PLC0415 - it is not there on every platform
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


@contextmanager
def stop_signal() -> Iterator[asyncio.Event]:
    """Turn SIGINT and SIGTERM into an asyncio.Event, for as long as the body runs.

    The first one sets the event; the second one does what it does by default, so that whoever is in a hurry is heard.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)

    def received(number: signal.Signals) -> None:
        log.info("signal received", signal=number.name)
        stop.set()
        restore()

    def restore() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    for number in signals:
        loop.add_signal_handler(number, received, number)
    try:
        yield stop
    finally:
        restore()
