"""Log lines of this project's programs, one JSON object each, as `--log-format json` writes them."""

import json
from datetime import datetime
from typing import Any

__all__ = ["entry_in", "logged_at", "seconds"]


def entry_in(line: str) -> dict[str, Any] | None:
    """The log entry of a line; None for a line that is none."""
    if not line.startswith("{"):
        return None
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return entry if "event" in entry else None


def logged_at(entry: dict[str, Any]) -> float:
    """When an entry was logged, in seconds since 1970."""
    return seconds(entry["timestamp"])


def seconds(timestamp: str) -> float:
    """An RFC 3339 time as seconds since 1970; digits below a microsecond are dropped."""
    return datetime.fromisoformat(timestamp).timestamp()
