import json
import re
from pathlib import Path
from typing import Any

from tests.e2e.report.page import Outcome, write_report


def record(**changes: Any) -> dict[str, Any]:
    replicas = [
        {"instance": f"10.0.0.{number}:50051", "pod": f"server-abc-pod{number}"}
        | {"ready": 12.0, "registered": 11.5, "first_call": 11.6}
        for number in (1, 2)
    ]
    calls: list[list[Any]] = [[10.0 + i / 10, 0.01, f"10.0.0.{1 + i % 2}:50051", "ok", 1] for i in range(40)]
    calls[7][4] = 2
    calls[8][2:4] = ["none", "UNAVAILABLE"]
    facts: dict[str, Any] = {
        "name": "test_scale",
        "began": 5.0,
        "marks": [
            {"time": 11.0, "text": "scale to <5>", "kind": "change", "until": None},
            {"time": 12.0, "text": "etcd goes", "kind": "fault", "until": None},
            {"time": 13.0, "text": "etcd is back", "kind": "recovery", "until": None},
        ],
        "figures": [{"name": "failed calls", "value": "1 of 40", "bound": "none"}],
        "replicas": replicas,
        "calls": calls,
        "verdict": {"calls": 40, "whole": 39, "excused": 0, "spans": 199, "broken": ["call 9"]},
    }
    return facts | changes


def write(run_dir: Path, outcomes: dict[str, Outcome], **records: dict[str, Any]) -> str:
    for name, facts in records.items():
        (run_dir / name).mkdir(parents=True)
        (run_dir / name / "record.json").write_text(json.dumps(facts))
    return write_report(run_dir, outcomes).read_text()


def visible(page: str) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)


def test_the_page_tells_of_every_test_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    outcomes = {
        "test_scale": Outcome("failed", 61.0, "1 call failed: <boom>"),
        "test_policies": Outcome("skipped", 3.0, "not enforced here"),
    }
    page = write(tmp_path, outcomes, test_scale=record())
    text = visible(page)
    assert "0 of 2 scenarios passed, 1 not run" in text
    assert "39 of 40" in text
    assert "97.50%" in text
    assert "1 call failed: &lt;boom&gt;" in text
    assert "not enforced here" in text
    assert not re.search(r'(src|href)="(?!#)', text)
    plain = (tmp_path / "report.txt").read_text()
    assert "FAILED" in plain
    assert "40 calls, 1 failed, 1 retried; whole traces: 39 of 40" in plain


def test_a_chart_has_a_series_for_each_replica_and_a_mark_for_each_deed(tmp_path: Path) -> None:
    page = write(tmp_path, {"test_scale": Outcome("passed", 1.0)}, test_scale=record())
    found = re.search(r'<script type="application/json" id="chart-0-data">(.*?)</script>', page)
    assert found
    figure = json.loads(found[1])
    bars = [series["name"] for series in figure["data"] if series["type"] == "bar"]
    assert bars == ["pod1 · 19", "pod2 · 20", "nobody · 1"]
    assert {note["text"] for note in figure["layout"]["annotations"]} >= {"scale to <5>", "etcd goes", "etcd is back"}
    assert {"retried · 1", "failed · 1"} <= {series.get("name") for series in figure["data"]}
    assert "chart-arrivals" in visible(page)


def test_no_test_at_all_is_a_page_too(tmp_path: Path) -> None:
    assert "0 of 0 scenarios passed" in visible(write(tmp_path, {}))
