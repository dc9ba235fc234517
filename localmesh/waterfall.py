"""A trace drawn in the terminal, as Zipkin's page draws it."""

from collections import defaultdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["waterfall"]

COLOURS = {"CLIENT": "cyan", "SERVER": "green"}

Span = dict[str, Any]


def waterfall(spans: list[Span], width: int = 120) -> RenderableType:
    """Draw a trace.

    Args:
        spans: As Zipkin's API gives them: timestamps and durations in microseconds, ids in hex.
        width: Columns of the terminal.

    Spans whose parent is missing are drawn as roots; so a broken trace is seen to be broken.
    """
    bar_width = max(8, min(60, width - 76))
    start = min(span["timestamp"] for span in spans)
    total = max(span["timestamp"] + span.get("duration", 1) for span in spans) - start
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    table.add_column("span", no_wrap=True)
    table.add_column("service", no_wrap=True)
    table.add_column("time", width=bar_width, no_wrap=True)
    table.add_column("duration", justify="right", no_wrap=True)
    failures = []
    for depth, span in _in_order(spans):
        failed = "error" in span.get("tags", {})
        colour = "red" if failed else COLOURS.get(span.get("kind", ""), "white")
        kind = span.get("kind", "")
        name = Text("  " * depth + span.get("name", "?"), style=colour)
        endpoint = span.get("localEndpoint", {})
        where = endpoint.get("serviceName", "?") + (f" :{endpoint['port']}" if "port" in endpoint else "")
        duration = span.get("duration", 0)
        table.add_row(
            name + Text(f" {kind.lower()}" if kind else "", style="dim"),
            where,
            Text(_bar(span["timestamp"] - start, duration, total, bar_width), style=colour),
            f"{duration / 1000:.1f} ms",
        )
        if failed:
            failures.append(Text(f"{span['name']}: {span['tags']['error']}", style="red"))
    heading = Text(f"trace {spans[0]['traceId']}: {len(spans)} spans, {total / 1000:.1f} ms", style="bold")
    return Group(heading, table, *failures)


def _in_order(spans: list[Span]) -> list[tuple[int, Span]]:
    """Each span after its parent, siblings by time, with its depth."""
    known = {span["id"] for span in spans}
    children: dict[str | None, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: int(span["timestamp"])):
        parent = span.get("parentId")
        children[parent if parent in known else None].append(span)
    ordered: list[tuple[int, Span]] = []
    stack = [(0, span) for span in reversed(children[None])]
    while stack:
        depth, span = stack.pop()
        ordered.append((depth, span))
        stack += [(depth + 1, child) for child in reversed(children[span["id"]])]
    return ordered


def _bar(offset: int, duration: int, total: int, width: int) -> str:
    left = min(width - 1, width * offset // total)
    length = max(1, round(width * duration / total))
    return " " * left + "━" * min(length, width - left)
