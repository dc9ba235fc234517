"""Where a log goes: standard output, whose reader may be slow, stop or go away."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog

__all__ = ["LogOutput"]

log = structlog.stdlib.get_logger(__name__)


class LogOutput(logging.Handler):
    """Writes log lines to a stream, and never waits long: the event loop would wait too, and leases would expire.

    It waits for a slow reader. When the reader takes nothing for a second, or the disk is full, lines are dropped until
    it takes some again; a `log lines lost` then says how many. Once the reader has gone for good (`broken`), nothing
    more is written.

    Args:
        stream: default: standard output as it is now; with none (closed from the beginning) nothing is written.
    """

    PATIENCE = 1.0
    # POSIX: a pipe that can be written to takes this much at once.
    PIECE = 4096

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stdout
        self._encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._lost = 0
        self._torn = False
        self._fd: int | None = None
        self._poll = select.poll() if hasattr(select, "poll") else None
        self._when_broken: Callable[[], None] | None = None
        self.broken = False
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
                self._stream.flush()
                self._fd = self._stream.fileno()
                if self._poll:
                    self._poll.register(self._fd, select.POLLOUT)

    @property
    def unicode(self) -> bool:
        """Whether the stream can encode any character."""
        return self._encoding.lower().replace("-", "").startswith("utf")

    @property
    def terminal(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    @contextmanager
    def calling_when_broken(self, call: Callable[[], None]) -> Iterator[None]:
        """While the body runs: run `call` when the reader goes, in the thread that notices; at once if it has gone."""
        self._when_broken = call
        if self.broken:
            call()
        try:
            yield
        finally:
            self._when_broken = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or drop it (logging.Handler)."""
        if self.broken or self._stream is None:
            return
        try:
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - as the standard library's own handlers do
            self.handleError(record)
            return
        try:
            if self._fd is None:
                self._stream.write(line)
            elif self._write(self._fd, line.encode(self._encoding, "backslashreplace")):
                self._tell_of_lost_lines()
            else:
                self._lost += 1
        except (BrokenPipeError, ValueError):
            # A ValueError: the stream was closed.
            self.broken = True
            if self._when_broken is not None:
                self._when_broken()
        except OSError:
            # A full disk, above all.
            self._lost += 1

    def _write(self, fd: int, line: bytes) -> bool:
        """Write a line; return whether all of it was written."""
        if self._torn:
            line = b"\n" + line
        while line:
            if not self._takes_some():
                return False
            written = os.write(fd, line[: self.PIECE])
            self._torn = written < len(line)
            line = line[written:]
        return True

    def _takes_some(self) -> bool:
        """Return whether a write would not wait; the first one that would is given time, for a slow reader."""
        if self._poll is None:
            return True
        return bool(self._poll.poll(0 if self._lost else self.PATIENCE * 1000))

    def _tell_of_lost_lines(self) -> None:
        if self._lost:
            lost, self._lost = self._lost, 0
            log.warning("log lines lost", lines=lost, reason="standard output took none")
