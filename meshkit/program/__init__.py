"""What runs a program: its flags, its log, its event loop and the signals that stop it."""

from __future__ import annotations

from meshkit.program.logs import LOG_FORMATS, LOG_LEVELS, LogFormat, LogLevel, configure_logging
from meshkit.program.runtime import run_async, stop_signal

__all__ = [
    "LOG_FORMATS",
    "LOG_LEVELS",
    "LogFormat",
    "LogLevel",
    "configure_logging",
    "run_async",
    "stop_signal",
]
