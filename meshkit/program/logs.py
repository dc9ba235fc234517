"""Logging for programs: structlog, with what libraries log through the standard library in the same form."""

from __future__ import annotations

import logging
import sys
from typing import Literal, get_args

import structlog
from structlog.typing import Processor

__all__ = ["LOG_FORMATS", "LOG_LEVELS", "LogFormat", "LogLevel", "configure_logging"]

LogFormat = Literal["logfmt", "json", "console"]
LOG_FORMATS: tuple[str, ...] = get_args(LogFormat)
LogLevel = Literal["debug", "info", "warning", "error"]
LOG_LEVELS: tuple[str, ...] = get_args(LogLevel)


def configure_logging(log_format: LogFormat, level: LogLevel = "info") -> None:
    """Log to standard output, one line an event.

    Args:
        log_format: `logfmt` (key=value), `json` (an object a line) or `console` (aligned, coloured in a terminal).
        level: least level that is written; what lies below costs next to nothing. Default `info`.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _rendering(log_format)
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
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)


def _rendering(log_format: LogFormat) -> list[Processor]:
    match log_format:
        case "json":
            return [
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ]
        case "console":
            return [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
        case "logfmt":
            first = ["timestamp", "level", "event"]
            return [
                structlog.processors.format_exc_info,
                structlog.processors.LogfmtRenderer(key_order=first, bool_as_flag=False),
            ]
