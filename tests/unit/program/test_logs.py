import logging
from collections.abc import Iterator

import pytest
import structlog

from meshkit.program.logs import LOG_LEVELS, LogLevel, configure_logging


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("least", LOG_LEVELS)
def test_what_lies_below_the_level_is_not_written_whoever_logs_it(
    least: LogLevel, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("logfmt", least)
    ours, theirs = structlog.stdlib.get_logger("ours"), logging.getLogger("theirs")
    for level in LOG_LEVELS:
        getattr(ours, level)(f"ours-{level}")
        getattr(theirs, level)(f"theirs-{level}")
    events = [line.rpartition("event=")[2] for line in capsys.readouterr().out.splitlines()]
    written = LOG_LEVELS[LOG_LEVELS.index(least) :]
    assert events == [f"{who}-{level}" for level in written for who in ("ours", "theirs")]


def test_by_default_all_but_debug_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    log = structlog.stdlib.get_logger("test")
    log.debug("spans not sent")
    log.info("picked")
    (line,) = capsys.readouterr().out.splitlines()
    assert "picked" in line
