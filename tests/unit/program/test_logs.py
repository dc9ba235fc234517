import json
import logging
import sys
from pathlib import Path

import pytest
import structlog
from opentelemetry.sdk.trace import SpanProcessor

from meshkit import root_span, trace_id_of
from meshkit.program.logs import LOG_FORMATS, LOG_LEVELS, LogFormat, LogLevel, configure_logging
from meshkit.tracing import tracer_provider
from tests.support.log_state import logging_as_before

__all__ = ["logging_as_before"]


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


EVIL = 'boom\n2026-01-01T00:00:00Z [info] forged\r\x1b[2J\x1b]0;owned\x07\x9bx\u202e\u2028\x7f\ud800 = "quoted"'


@pytest.mark.parametrize("form", LOG_FORMATS)
def test_text_of_others_stays_in_its_line_and_is_obeyed_by_no_terminal(
    form: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(form)
    ours, theirs = structlog.stdlib.get_logger("ours"), logging.getLogger("theirs")
    ours.info("picked", details=EVIL, nested={EVIL: [EVIL]}, error=ValueError(EVIL))
    ours.info(EVIL)
    theirs.warning("theirs: %s", EVIL)
    lines = capsys.readouterr().out.split("\n")
    assert lines.pop() == ""
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    if form == "json":
        assert json.loads(lines[0])["details"] == EVIL
        assert json.loads(lines[1])["event"] == EVIL


@pytest.mark.parametrize("form", LOG_FORMATS)
def test_so_does_the_text_of_an_exception(form: LogFormat, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(form)
    try:
        int(EVIL)
    except ValueError:
        structlog.stdlib.get_logger("ours").exception("failed")
    first, *rest = capsys.readouterr().out.rstrip("\n").split("\n")
    assert "failed" in first
    assert all(line.isprintable() for line in (first, *rest))
    # A traceback has lines of its own on the console only, where none of them begins as a line of the log does.
    assert bool(rest) == (form == "console")
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize("form", LOG_FORMATS)
def test_a_terminal_that_knows_ascii_only_is_told_all_the_same(
    form: LogFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        configure_logging(form)
        structlog.stdlib.get_logger("ours").info("picked", book="Go入门 \U0001f4d6 é")
    line = (tmp_path / "log").read_text(encoding="ascii")
    assert r"Go\u5165\u95e8" in line
    if form == "json":
        assert json.loads(line)["book"] == "Go入门 \U0001f4d6 é"


def test_a_library_whose_lines_hold_whole_urls_is_not_heard(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("logfmt", "debug")
    logging.getLogger("urllib3.connectionpool").debug('"POST /api/v2/spans?api_key=K3Y HTTP/1.1" 202 0')
    logging.getLogger("urllib3.connectionpool").warning("Retrying: /api/v2/spans?api_key=K3Y")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("form", ["json", "logfmt"])
def test_a_line_that_is_written_inside_a_call_tells_its_trace_and_span(
    form: LogFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(form)
    ours, theirs = structlog.stdlib.get_logger("ours"), logging.getLogger("theirs")
    provider = tracer_provider("test")
    provider.add_span_processor(SpanProcessor())
    with root_span(provider.get_tracer("test"), "call") as span:
        ours.info("inside")
        theirs.warning("inside")
        ours.info("its own", trace_id="other")
    ours.info("outside")
    inside, inside_too, own, outside = capsys.readouterr().out.splitlines()
    trace_id, span_id = trace_id_of(span), f"{span.get_span_context().span_id:016x}"
    for line in (inside, inside_too):
        assert trace_id in line
        assert span_id in line
    assert trace_id not in own
    assert "trace_id" not in outside
