"""A log whose reader goes away, stops reading, or has no room: no program stands still for it, none says much."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
import structlog

from meshkit.program.output import LogOutput
from tests.support.log_state import logging_as_before

__all__ = ["logging_as_before"]

Pipe = tuple[TextIO, TextIO]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Its two ends, for reading and for writing."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as reader, os.fdopen(writing, "w", encoding="utf-8") as writer:
        yield reader, writer


def logger(output: LogOutput) -> logging.Logger:
    """One that writes there alone; structlog's own lines go there, too."""
    logging.getLogger().handlers[:] = [output]
    structlog.configure(
        processors=[structlog.processors.KeyValueRenderer()], logger_factory=structlog.stdlib.LoggerFactory()
    )
    return logging.getLogger("test")


def within(seconds: float, work: Callable[[], None]) -> None:
    start = time.monotonic()
    work()
    assert time.monotonic() - start < seconds


def test_a_reader_that_goes_is_told_of_once_and_nothing_more_is_written(
    pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = pipe
    output = LogOutput(writer)
    log, calls = logger(output), list[int]()
    with output.calling_when_broken(lambda: calls.append(1)):
        log.error("read")
        assert reader.readline() == "read\n"
        reader.close()
        for _ in range(3):
            log.error("unread")
        assert output.broken
        assert calls == [1]
    assert capsys.readouterr() == ("", "")
    with output.calling_when_broken(lambda: calls.append(2)):
        assert calls == [1, 2], "who asks later is told at once"


def test_a_reader_that_stops_holds_the_program_up_once_and_the_lost_lines_are_counted(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LogOutput, "PATIENCE", 0.05)
    reader, writer = pipe
    log = logger(LogOutput(writer))

    def fill() -> None:
        # A pipe of Linux takes 64 KiB.
        for _ in range(1000):
            log.error("x" * 1000)

    within(10, fill)
    os.set_blocking(reader.fileno(), False)
    while reader.buffer.read(65536):
        pass
    log.error("heard again")
    lines = os.read(reader.fileno(), 65536).decode().splitlines()
    assert "heard again" in lines
    assert "log lines lost" in lines[-1]
    lost = int(lines[-1].rpartition("lines=")[2].split()[0])
    assert 900 <= lost < 1000


def test_a_line_longer_than_a_pipe_takes_is_not_waited_for_either(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LogOutput, "PATIENCE", 0.05)
    reader, writer = pipe
    log = logger(LogOutput(writer))
    within(10, lambda: log.error("x" * 1_000_000))
    os.set_blocking(reader.fileno(), False)
    while reader.buffer.read(65536):
        pass
    log.error("heard again")
    assert os.read(reader.fileno(), 65536).decode().splitlines()[:2] == ["", "heard again"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_no_error_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        output = LogOutput(full)
        logger(output).error("not written")
    assert not output.broken
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("encoding", "written"), [("ascii", r"Go\u5165\u95e8"), ("gbk", "Go入门"), ("utf-8", "Go入门")]
)
def test_what_an_encoding_cannot_say_is_escaped(tmp_path: Path, encoding: str, written: str) -> None:
    with (tmp_path / "log").open("w", encoding=encoding) as stream:
        logger(LogOutput(stream)).error("Go入门")
    assert (tmp_path / "log").read_text(encoding=encoding) == written + "\n"


def test_without_standard_output_there_is_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    logger(LogOutput()).error("nowhere")
