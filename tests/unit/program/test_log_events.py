"""Every event that the toolkit and the programs can log, with its level and fields, as the source says.

What a running program really writes is in tests/integration/test_contracts.py; no run comes by all of these.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.support.golden import check_golden

ROOT = Path(__file__).parents[3]
LEVELS = {"debug", "info", "warning", "error", "exception"}


def test_events_with_their_levels_and_fields() -> None:
    events = defaultdict(set)
    for folder in ("meshkit", "services"):
        for path in (ROOT / folder).rglob("*.py"):
            for event, shape in logged_in(ast.parse(path.read_text(encoding="utf-8"))):
                events[event].add(shape)
    check_golden("log_events", {event: sorted(shapes) for event, shapes in sorted(events.items())})


def logged_in(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Each `log.LEVEL("event", field=...)`: the event, and `LEVEL: field ...`; `**` are fields from elsewhere."""
    for node in ast.walk(module):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[event]) if level in LEVELS:
                assert isinstance(event, ast.Constant), f"line {node.lineno}: an event that is not written out"
                fields = (keyword.arg or "**" for keyword in node.keywords)
                yield str(event.value), f"{level}: {' '.join(fields)}"
