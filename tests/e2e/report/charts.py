"""The report's charts. Colours of text and grid come from the page, see report.js; these here do on light and dark."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

__all__ = ["arrivals", "time_line"]

PALETTE = (
    *("#4c8bf5", "#14a38b", "#e2a414", "#8e6bdb", "#38b6d6"),
    *("#d66ba0", "#8aa32a", "#b07a4f", "#6f86ad", "#5bbf6a"),
)
FAILED, RETRIED, QUIET = "#e5484d", "#f2711c", "#8a94a3"
MARKS = {"change": QUIET, "fault": FAILED, "recovery": "#2f9e6b"}
SMALL = {"size": 12.5}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif'
LATENCIES = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]
# A call's row in a record.
START, DURATION, INSTANCE, OUTCOME, ATTEMPTS = range(5)

Call = Sequence[Any]


def time_line(record: dict[str, Any]) -> Any:
    """Calls a second by replica above every call's latency, with all that was done to the mesh marked."""
    calls: list[Call] = record["calls"]
    zero = min(call[START] for call in calls)
    end = max(call[START] + call[DURATION] for call in calls) - zero
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.09, row_heights=[0.58, 0.42])
    names = _replica_names(record)
    for number, instance in enumerate(_in_order(record)):
        colour = PALETTE[number % len(PALETTE)]
        _add_replica(
            figure, names[instance], colour, [call for call in calls if call[INSTANCE] == instance], zero=zero, end=end
        )
    _add_exceptions(figure, calls, zero)
    storeys = _add_marks(figure, record["marks"], zero, end)
    figure.update_layout(
        barmode="stack",
        bargap=0,
        height=400 + 17 * storeys,
        margin={"l": 62, "r": 16, "t": 12 + 17 * storeys, "b": 76},
        legend={
            "orientation": "h",
            "y": -0.13,
            "x": 0,
            "itemsizing": "constant",
            "title": {"text": "answered by  ", "font": SMALL},
        },
        **_look(),
    )
    figure.update_xaxes(range=[-0.5, end + 0.5], ticksuffix=" s", showgrid=False)
    figure.update_yaxes(title={"text": "calls a second", "font": SMALL}, rangemode="tozero", row=1, col=1)
    figure.update_yaxes(title={"text": "latency, ms", "font": SMALL}, type="log", tickvals=LATENCIES, row=2, col=1)
    return figure


def _add_replica(figure: Any, name: str, colour: str, calls: list[Call], *, zero: float, end: float) -> None:
    seconds = Counter(int(call[START] + call[DURATION] - zero) for call in calls)
    # The last second is not a whole one.
    width = {second: min(1.0, end - second) for second in seconds}
    figure.add_bar(
        x=[second + width[second] / 2 for second in seconds],
        y=[count / max(width[second], 0.25) for second, count in seconds.items()],
        width=[width[second] for second in seconds],
        marker={"color": colour, "line": {"width": 0}},
        name=f"{name} · {len(calls):,}",
        legendgroup=name,
        hovertemplate=f"{name}: %{{y:.0f}} a second<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_scattergl(
        x=[call[START] - zero for call in calls],
        y=[call[DURATION] * 1000 for call in calls],
        mode="markers",
        marker={"color": colour, "size": 3.5, "opacity": 0.55},
        legendgroup=name,
        showlegend=False,
        hovertemplate=f"{name}: %{{y:.1f}} ms<extra></extra>",
        row=2,
        col=1,
    )


def _add_exceptions(figure: Any, calls: list[Call], zero: float) -> None:
    kinds = (
        ("retried", RETRIED, "diamond", [call for call in calls if call[OUTCOME] == "ok" and call[ATTEMPTS] > 1]),
        ("failed", FAILED, "x", [call for call in calls if call[OUTCOME] != "ok"]),
    )
    for name, colour, symbol, some in kinds:
        if some:
            figure.add_scatter(
                x=[call[START] - zero for call in some],
                y=[max(call[DURATION] * 1000, 0.1) for call in some],
                mode="markers",
                marker={"color": colour, "size": 9, "symbol": symbol, "line": {"width": 1, "color": "white"}},
                name=f"{name} · {len(some):,}",
                hovertemplate=f"{name}: %{{y:.1f}} ms<extra></extra>",
                row=2,
                col=1,
            )


def _add_marks(figure: Any, marks: list[dict[str, Any]], zero: float, end: float) -> int:
    """Draw the marks; returns how many storeys their labels take."""
    last_x = {0: -math.inf, 1: -math.inf, 2: -math.inf}
    shown = [mark for mark in marks if -0.5 <= mark["time"] - zero <= end + 0.5]
    for mark in shown:
        x = mark["time"] - zero
        colour = MARKS[mark["kind"]]
        figure.add_shape(
            type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": colour, "width": 1.5, "dash": "dot"}
        )
        # Labels that would run into each other go one storey higher.
        storey = next((s for s, until in last_x.items() if x > until), 2)
        last_x[storey] = x + len(mark["text"]) * end / 140 + end / 100
        right = x > end * 0.8
        figure.add_annotation(
            x=x,
            y=1,
            yref="paper",
            yshift=12 + 17 * storey,
            xshift=2 if right else -2,
            text=mark["text"],
            showarrow=False,
            xanchor="right" if right else "left",
            font={"color": colour, "size": 12},
        )
    for fault in (mark for mark in shown if mark["kind"] == "fault"):
        over = next((m["time"] for m in shown if m["kind"] == "recovery" and m["time"] > fault["time"]), None)
        if over is not None:
            figure.add_shape(
                type="rect",
                x0=fault["time"] - zero,
                x1=over - zero,
                y0=0,
                y1=1,
                yref="paper",
                fillcolor=FAILED,
                opacity=0.09,
                layer="below",
                line={"width": 0},
            )
    return sum(until > -math.inf for until in last_x.values())


def arrivals(rows: list[tuple[str, str, float, float]], bound: float) -> Any:
    """Each replica that came while calls flowed: its key in etcd and its first call, in seconds from its being Ready.

    A row: the test's name, the replica's, when it was registered, when it was first called.
    """
    figure = go.Figure()
    labels = [f"{test} · {replica}" for test, replica, _, _ in rows]
    for label, (_, _, registered, called) in zip(labels, rows, strict=True):
        figure.add_scatter(
            x=[registered, called], y=[label] * 2, mode="lines", line={"color": QUIET, "width": 2}, showlegend=False
        )
    for name, colour, position in (("key in etcd", PALETTE[3], 2), ("first call", PALETTE[0], 3)):
        figure.add_scatter(
            x=[row[position] for row in rows],
            y=labels,
            mode="markers",
            marker={"color": colour, "size": 10},
            name=name,
            hovertemplate=f"%{{y}}<br>{name} %{{x:+.2f}} s<extra></extra>",
        )
    for x, colour, text in ((0.0, MARKS["recovery"], "Ready"), (bound, FAILED, f"bound, {bound:g} s")):
        figure.add_vline(x=x, line={"color": colour, "width": 1.5, "dash": "dot"})
        figure.add_annotation(
            x=x, y=1, yref="paper", yshift=12, text=text, showarrow=False, font={"color": colour, "size": 12}
        )
    figure.update_layout(
        height=120 + 24 * len(rows),
        margin={"l": 8, "r": 16, "t": 36, "b": 60},
        legend={"orientation": "h", "y": -60 / (60 + 24 * len(rows)), "x": 0},
        **_look(),
    )
    figure.update_xaxes(ticksuffix=" s", zeroline=False)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def _look() -> dict[str, Any]:
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 12.5},
        "hoverlabel": {"font": {"family": FONT}},
    }


def _in_order(record: dict[str, Any]) -> list[str]:
    """The instances by their first call; the word for none last."""
    first: dict[str, float] = {}
    for call in record["calls"]:
        first[call[INSTANCE]] = min(call[START], first.get(call[INSTANCE], math.inf))
    return sorted(first, key=lambda instance: (instance == "none", first[instance]))


def _replica_names(record: dict[str, Any]) -> dict[str, str]:
    """The part of each pod's name that differs."""
    names = {replica["instance"]: replica["pod"].rpartition("-")[2] for replica in record["replicas"]}
    return {call[INSTANCE]: names.get(call[INSTANCE], call[INSTANCE]) for call in record["calls"]} | {"none": "nobody"}
