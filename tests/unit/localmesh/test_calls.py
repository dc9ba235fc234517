import json

import pytest

from localmesh.calls import calls_in, entries_in, missing_numbers, picks_in
from localmesh.lines import seconds


def line(**entry: object) -> str:
    return json.dumps({"timestamp": "2026-01-02T03:04:05.500000Z", **entry})


CALL = {"event": "call", "outcome": "ok", "instance": "10.0.0.1:50051", "attempts": 1, "trace_id": "ab"}


def test_a_calls_start_is_its_line_less_its_duration() -> None:
    (call,) = calls_in([line(**CALL, call=3, duration_ms=250.0)], "client-a", "10.0.0.9")
    assert call.end - call.start == pytest.approx(0.25)
    assert call.end == pytest.approx(seconds("2026-01-02T03:04:05.5Z"))
    assert (call.number, call.client, call.ok) == (3, "client-a", True)


def test_other_lines_are_passed_over() -> None:
    lines = ["Traceback", "{cut off", "{}", line(event="picked", call=1, instance="a:1", attempt=1), ""]
    assert [entry["event"] for entry in entries_in(lines)] == ["picked"]
    assert [pick.instance for pick in picks_in(lines)] == ["a:1"]
    assert calls_in(lines, "client-a", "10.0.0.9") == []


def test_a_lost_line_is_noticed_by_its_number() -> None:
    calls = calls_in([line(**CALL, call=number, duration_ms=1) for number in (4, 1, 2)], "client-a", "10.0.0.9")
    assert missing_numbers(calls) == [3]
    assert missing_numbers([]) == []
