"""The results as tables, in the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

__all__ = ["Table", "markdown", "show", "tables"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a title; the first columns are left-aligned, as many as `text_columns`."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1


def tables(results: dict[str, Any]) -> Iterator[Table]:
    """A table for each part that was run."""
    if calls := results.get("calls"):
        for in_flight in sorted({cell["in_flight"] for cell in calls["cells"]}):
            yield _calls(calls, in_flight)
        yield Table(
            "The aims, at 16 in flight (ratios within a round)",
            ("ratio", "aim", "median", "spread"),
            [
                (r["title"], r["aim"], f"{r['median']:.2f}", f"{r['spread'][0]:.2f}-{r['spread'][1]:.2f}")
                for r in calls["ratios"]
            ],
            text_columns=2,
        )
        yield _spans("Spans of all rounds, asked of Zipkin once all had stopped", calls["spans"])
    if endurance := results.get("endurance"):
        yield Table(
            f"bookmesh, traced, at full speed for {endurance['seconds']:.0f} s",
            ("", ""),
            [
                ("calls", f"{endurance['calls']:,.0f}"),
                ("most spans in the client's queue", f"{endurance['most_queued']:.0f}"),
                ("client's memory, MB, every few seconds", " ".join(f"{mb:.0f}" for mb in endurance["client_mb"])),
                ("server's memory, MB", " ".join(f"{mb:.0f}" for mb in endurance["server_mb"])),
            ],
        )
        yield _spans("Its spans", [endurance["spans"]])
    if micro := results.get("micro"):
        yield Table(
            "Parts by themselves, µs",
            ("part", "median", "spread"),
            [(m["name"], f"{m['median_us']:.2f}", "{:.2f}-{:.2f}".format(*m["spread_us"])) for m in micro],
        )
    if live := results.get("live"):
        yield Table(
            "Parts within real calls, client and server in one process at 16 in flight: CPU a call, µs",
            ("part", "call with it", "its share", "95% interval"),
            [
                (
                    row["name"],
                    f"{row['total_us']:.0f}",
                    f"{row['more_us']:.0f}",
                    "{:.0f}-{:.0f}".format(*row["more_interval_us"]),
                )
                for row in live
            ],
        )
    if growth := results.get("growth"):
        yield Table(
            "Growth: from a change in etcd to the watchers' knowing it",
            ("instances", "watchers", "first, ms", "last, ms", "worst last, ms", "CPU an update, µs", "pick, µs"),
            [
                (
                    f"{g['instances']:,}",
                    f"{g['watchers']}",
                    *(f"{g[name]:.1f}" for name in ("first_ms", "last_ms", "last_worst_ms")),
                    f"{g['update_cpu_us']:.0f}",
                    f"{g['pick_us']:.2f}",
                )
                for g in growth
            ],
            text_columns=0,
        )
    if idle := results.get("idle"):
        low, high = idle["serving_spread_s"]
        yield Table(
            "A server that nobody calls",
            ("", ""),
            [
                ("resident memory, MB", f"{idle['rss_mb']:.1f}"),
                ("CPU, % of a core", f"{idle['cpu_percent']:.2f}"),
                ("import of book_server, s", f"{idle['import_s']:.2f}"),
                ("start of the process to serving, s", f"{idle['serving_s']:.2f} ({low:.2f}-{high:.2f})"),
            ],
        )
    if balance := results.get("balance"):
        yield from _balance(balance)


def _balance(balance: dict[str, Any]) -> Iterator[Table]:
    simulated, processes = balance["simulated"], balance["processes"]
    yield Table(
        "Calls that succeed within 1 s, of 11 servers that take 167 ms, one of them 2 s half of the time;"
        f" seed {balance['seed']}",
        ("", "simulated, 1,000 calls/s", "processes, 100 calls/s"),
        [(name, _percent(simulated.get(name)), _percent(processes[name])) for name in processes],
    )
    yield Table(
        "Share of picks that one of three gets, as well as the others, and refusing all above 10 calls/s; simulated",
        ("", "as well", "refusing"),
        [(name, *map(_percent, shares)) for name, shares in balance["refused"].items()],
    )
    policies = balance["policies"]
    for title, count in (("fail", "failed"), ("take more than half a second", "slow")):
        yield Table(
            f"One of three replicas is sick: calls that {title}, of 600 at 20 a second with a time limit of 1 s",
            ("", *policies),
            [(name, *(str(of[name][count]) for of in policies.values())) for name in policies["dead"]],
        )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.2%}"


def _calls(calls: dict[str, Any], in_flight: int) -> Table:
    rows = [
        (
            str(cell["title"]),
            f"{cell['calls_per_s']:,.0f}",
            "{:,.0f}-{:,.0f}".format(*cell["spread"]),
            f"{cell['of_bare']:.2f}",
            f"{cell['p50_us'] / 1000:.2f}",
            f"{cell['p99_us'] / 1000:.2f}",
            *(f"{cell[name]:.0f}" for name in ("client_cpu_us", "server_cpu_us", "zipkin_cpu_us")),
            f"{cell['rss_mb']:.0f}",
            f"{cell['server_rss_mb']:.0f}",
        )
        for cell in calls["cells"]
        if cell["in_flight"] == in_flight
    ]
    timings = ("calls/s", "spread", "of bare", "p50 ms", "p99 ms", "client µs", "servers µs", "Zipkin µs")
    head = ("", *timings, "client MB", "server MB")
    rounds, seconds, servers = calls["rounds"], calls["seconds"], calls["servers"]
    return Table(
        f"{in_flight} in flight: medians of {rounds} rounds of {seconds:g} s, {servers} servers (µs: CPU per call)",
        head,
        rows,
    )


def _spans(title: str, spans: Sequence[dict[str, Any]]) -> Table:
    names = ("made", "taken", "dropped", "dropped_by_zipkin", "lost")
    head = ("", "made", "taken by Zipkin", "counted as dropped", "dropped by Zipkin", "lost")
    return Table(title, head, [(s["title"], *(f"{s[name]:,}" for name in names)) for s in spans])


def show(results: dict[str, Any], console: Console) -> None:
    """Print all tables."""
    for table in tables(results):
        rich_table = RichTable(title=table.title, title_justify="left", title_style="bold")
        for number, name in enumerate(table.head):
            rich_table.add_column(name, justify="left" if number < table.text_columns else "right", no_wrap=number > 0)
        for row in table.rows:
            rich_table.add_row(*row)
        console.print(rich_table)


def markdown(results: dict[str, Any]) -> str:
    """All tables, for docs/performance.md."""
    parts = []
    for table in tables(results):
        rule = [":---" if number < table.text_columns else "---:" for number in range(len(table.head))]
        lines = [" | ".join(row) for row in (table.head, rule, *table.rows)]
        parts.append(f"**{table.title}**\n\n" + "\n".join(f"| {line} |" for line in lines))
    return "\n\n".join(parts) + "\n"
