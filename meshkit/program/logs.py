"""Logging for programs: structlog, with what libraries log through the standard library in the same form.

Log lines may contain text of others: a server's details, a key in etcd. Such text never breaks a line, and no terminal
obeys it (`meshkit.program.text`). A line written inside a call tells its trace.
"""

from __future__ import annotations

import json
import logging
import textwrap
from typing import Any, Literal, get_args

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

from meshkit.program.output import LogOutput
from meshkit.program.text import is_shown, printable
from meshkit.tracing import trace_id_of

__all__ = ["LOG_FORMATS", "LOG_LEVELS", "LogFormat", "LogLevel", "configure_logging"]

LogFormat = Literal["logfmt", "json", "console"]
LOG_FORMATS: tuple[str, ...] = get_args(LogFormat)
LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: tuple[str, ...] = get_args(LogLevel)

# Its debug lines and warnings hold whole URLs, with the secrets in their queries.
SILENCED = "urllib3"


def configure_logging(log_format: LogFormat, level: LogLevel = "info") -> LogOutput:
    """Log to standard output, one line an event.

    Args:
        log_format: `logfmt` (key=value), `json` (an object a line) or `console` (aligned, coloured in a terminal).
        level: least level that is written; events below it cost next to nothing. Default `info`.

    Returns:
        Where the lines go: for `stop_signal`, if the program makes no sense without a reader.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        _within_call,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    output = LogOutput()
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *_rendering(log_format, output),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(least)
    logging.getLogger(SILENCED).setLevel(logging.CRITICAL)
    return output


def _rendering(log_format: LogFormat, output: LogOutput) -> list[Processor]:
    match log_format:
        case "json":
            return [structlog.processors.JSONRenderer(ensure_ascii=not output.unicode), _json_escaped]
        case "console":
            # Its lines contain escape sequences of its own, so those of others are escaped before.
            return [
                _values_printable,
                structlog.dev.ConsoleRenderer(
                    colors=output.terminal, exception_formatter=structlog.dev.plain_traceback
                ),
            ]
        case "logfmt":
            first = ["timestamp", "level", "event"]
            return [structlog.processors.LogfmtRenderer(key_order=first, bool_as_flag=False), _line_printable]


def _within_call(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Say which span a line was written in, by the names of OpenTelemetry's log conventions.

    Source: OpenTelemetry specification, `specification/compatibility/logging_trace_context.md`.
    """
    span = trace.get_current_span()
    context = span.get_span_context()
    if context.is_valid:
        event.setdefault("trace_id", trace_id_of(span))
        event.setdefault("span_id", f"{context.span_id:016x}")
    return event


def _line_printable(_logger: WrappedLogger, _method: str, line: Any) -> str:
    return printable(line)


def _json_escaped(_logger: WrappedLogger, _method: str, line: Any) -> str:
    """Escape what JSON allows in a string and a terminal obeys: C1, bidi controls and the like."""
    if line.isprintable():
        return str(line)
    return "".join(each if is_shown(each) else json.dumps(each)[1:-1] for each in line)


def _values_printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape strings only: the renderer writes everything else with `repr`, which escapes."""
    # Indented, lines of others cannot pass for lines of the log.
    trace = event.pop("exception", None)
    harmless: EventDict = {key: printable(value) if isinstance(value, str) else value for key, value in event.items()}
    if trace is not None:
        harmless["exception"] = textwrap.indent("\n".join(map(printable, trace.split("\n"))), "    ")
    return harmless
