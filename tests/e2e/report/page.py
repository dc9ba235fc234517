"""`.run/e2e/report.html`: what happened in each test, as one page that needs nothing else, and the same as text."""

import html
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from localmesh.measure import percentile
from tests.e2e.report.charts import ATTEMPTS, DURATION, OUTCOME, START, arrivals, time_line

__all__ = ["Outcome", "write_report"]

HERE = Path(__file__).parent
FIRST_CALL_WITHIN = 3.0
WORDS = {"passed": ("passed", "good"), "failed": ("FAILED", "bad"), "skipped": ("not run", "idle")}


@dataclass(slots=True)
class Outcome:
    """How pytest saw a test end."""

    word: str = "failed"
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Test:
    """A test's outcome, what it recorded, and the sums over it."""

    name: str
    outcome: Outcome
    record: dict[str, Any]
    calls: int
    failed: int
    retried: int
    judged: int
    whole: int
    spans: int
    p50: float
    p99: float

    @property
    def sentence(self) -> str:
        """The test's name, to be read."""
        return self.name.removeprefix("test_").replace("_", " ").capitalize()

    @property
    def traces(self) -> str:
        """How many traces are whole, out of all that were judged."""
        return f"{self.whole:,} of {self.judged:,}" if self.judged else "–"


def write_report(run_dir: Path, outcomes: Mapping[str, Outcome]) -> Path:
    """Write the page from each test's `record.json` below `run_dir`; a test without one has its outcome alone."""
    tests = [_test(name, outcome, run_dir / name / "record.json") for name, outcome in outcomes.items()]
    tests.sort(key=lambda test: test.record.get("began", math.inf))
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "report.txt").write_text(_text(tests))
    path = run_dir / "report.html"
    path.write_text(_page(tests), encoding="utf-8")
    return path


def _test(name: str, outcome: Outcome, path: Path) -> Test:
    record = json.loads(path.read_text()) if path.exists() else {}
    calls = record.get("calls", [])
    verdict = record.get("verdict") or {}
    good = [call[DURATION] for call in calls if call[OUTCOME] == "ok"]
    return Test(
        name=name,
        outcome=outcome,
        record=record,
        calls=len(calls),
        failed=len(calls) - len(good),
        retried=sum(call[ATTEMPTS] > 1 for call in calls),
        judged=verdict.get("calls", 0),
        whole=verdict.get("whole", 0),
        spans=verdict.get("spans", 0),
        p50=percentile(good, 50) * 1000,
        p99=percentile(good, 99) * 1000,
    )


def _text(tests: list[Test]) -> str:
    lines = []
    for test in tests:
        word = WORDS[test.outcome.word][0]
        lines.append(f"{word:8}{test.outcome.seconds:5.0f} s  {test.sentence}")
        if test.calls:
            lines.append(
                f"{'':17}{test.calls:,} calls, {test.failed} failed, {test.retried} retried; whole traces: "
                f"{test.traces}; p50 {test.p50:.1f} ms, p99 {test.p99:.1f} ms"
            )
        if figures := test.record.get("figures"):
            lines.append(f"{'':17}" + "; ".join(_figure(figure) for figure in figures))
        if test.outcome.word == "skipped":
            lines.append(f"{'':17}{test.outcome.reason}")
    return "\n".join(lines) + "\n"


def _figure(figure: dict[str, str]) -> str:
    return f"{figure['name']} {figure['value']}" + (f" (bound: {figure['bound']})" if figure["bound"] else "")


def _page(tests: list[Test]) -> str:
    charts = [(f"chart-{number}", time_line(test.record)) if test.calls else None for number, test in enumerate(tests)]
    rows = _arrival_rows(tests)
    last = ("chart-arrivals", arrivals(rows, FIRST_CALL_WITHIN)) if rows else None
    sections = [_section(number, test, charts[number] is not None) for number, test in enumerate(tests)]
    data = "".join(_data(*chart) for chart in [*charts, last] if chart)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>bookmesh: what happened</title>
<style>{(HERE / "report.css").read_text()}</style>
</head>
<body>
<main>
{_header(tests)}
{_table(tests)}
{_arrivals_section(rows) if last else ""}
{"".join(sections)}
</main>
<script>{get_plotlyjs()}</script>
{data}
<script>{(HERE / "report.js").read_text()}</script>
</body>
</html>
"""


def _data(name: str, chart: Any) -> str:
    # "</" inside a script would end it.
    figure = chart.to_json().replace("</", "<\\/")
    return f'<script type="application/json" id="{name}-data">{figure}</script>\n'


def _header(tests: list[Test]) -> str:
    passed = sum(test.outcome.word == "passed" for test in tests)
    failed = sum(test.outcome.word == "failed" for test in tests)
    skipped = len(tests) - passed - failed
    verdict = f"{passed} of {len(tests)} scenarios passed" + (f", {skipped} not run" if skipped else "")
    began = min((test.record["began"] for test in tests if test.record), default=time.time())
    calls, judged = sum(test.calls for test in tests), sum(test.judged for test in tests)
    bad_calls, whole = sum(test.failed for test in tests), sum(test.whole for test in tests)
    waits = [called for _, _, _, called in _arrival_rows(tests)]
    share = f"{100 * whole / judged:.2f}%".replace("100.00", "100") if judged else "–"
    tiles = [
        (f"{calls:,}", "calls", ""),
        (f"{bad_calls:,}", "failed", "bad" if bad_calls else "good"),
        (f"{sum(test.retried for test in tests):,}", "retried", ""),
        (share, f"whole traces, {whole:,} of {judged:,}", ""),
        (f"{sum(test.spans for test in tests):,}", "spans read back", ""),
        (f"{max(0.0, *waits):.1f} s" if waits else "–", "Ready to first call, at most", ""),
    ]
    boxes = "".join(
        f'<div class="tile"><b class="{look}">{value}</b><span>{name}</span></div>' for value, name, look in tiles
    )
    day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began))
    return f"""<header>
<h1>bookmesh end to end: <span class="{"bad" if failed else "good"}">{verdict}</span></h1>
<p>Calls of a client in the cluster while replicas come, go and die; every call held against its trace. {day}</p>
</header>
<div class="tiles">{boxes}</div>"""


def _table(tests: list[Test]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{test.name}">{html.escape(test.sentence)}</a></td>'
        f'<td class="{WORDS[test.outcome.word][1]}">{WORDS[test.outcome.word][0]}</td>'
        + "".join(f"<td>{cell}</td>" for cell in _cells(test))
        + "</tr>\n"
        for test in tests
    )
    return f"""<section><div class="scroll"><table>
<thead><tr><th>scenario</th><th>outcome</th><th>calls</th><th>failed</th><th>retried</th><th>whole traces</th>
<th>p50</th><th>p99</th><th>took</th></tr></thead>
<tbody>{rows}</tbody></table></div></section>"""


def _cells(test: Test) -> list[str]:
    took = f"{test.outcome.seconds:.0f} s"
    if not test.calls:
        return ["–"] * 6 + [took]
    numbers = [f"{test.calls:,}", f"{test.failed:,}", f"{test.retried:,}", test.traces]
    return [*numbers, f"{test.p50:.1f} ms", f"{test.p99:.1f} ms", took]


def _section(number: int, test: Test, has_chart: bool) -> str:
    word, look = WORDS[test.outcome.word]
    figures = "".join(
        f"<li>{html.escape(figure['name'])} <b>{html.escape(figure['value'])}</b>"
        + (f" · bound: {html.escape(figure['bound'])}" if figure["bound"] else "")
        + "</li>"
        for figure in test.record.get("figures", [])
    )
    reason = f"<pre>{html.escape(test.outcome.reason[:4000])}</pre>" if test.outcome.reason else ""
    chart = f'<div class="chart" id="chart-{number}"></div>' if has_chart else ""
    return f"""<section id="{test.name}">
<div class="head"><h2>{html.escape(test.sentence)}</h2><span class="{look}">{word}</span></div>
<ul class="figures">{figures}</ul>
{reason}{chart}
</section>
"""


def _arrivals_section(rows: list[tuple[str, str, float, float]]) -> str:
    return f"""<section>
<h2>From Ready to the first call</h2>
<p>{len(rows)} replicas that came while calls flowed. Left of Ready: the mesh knew sooner than Kubernetes,
whose probes look every two seconds.</p>
<div class="chart" id="chart-arrivals"></div>
</section>"""


def _arrival_rows(tests: list[Test]) -> list[tuple[str, str, float, float]]:
    rows = []
    for test in tests:
        if test.calls:
            began = min(call[START] for call in test.record["calls"])
            for replica in test.record["replicas"]:
                ready, registered, called = replica["ready"], replica["registered"], replica["first_call"]
                if None not in (ready, registered, called) and ready > began:
                    short = " ".join(test.sentence.split()[:3])
                    rows.append((short, replica["pod"].rpartition("-")[2], registered - ready, called - ready))
    return rows
