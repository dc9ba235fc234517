import base64
import json

from tests.e2e.harness.podlogs import new_lines
from tests.e2e.harness.registry import KeyChange, changes_in


def test_a_stream_that_is_opened_again_adds_only_what_is_new() -> None:
    raw = ["2026-01-02T03:04:05.1Z a", "2026-01-02T03:04:05.12Z b", "2026-01-02T03:04:05.2Z c d"]
    assert [text for _, text in new_lines(raw, "")] == ["a", "b", "c d"]
    assert [text for _, text in new_lines(raw, "2026-01-02T03:04:05.1Z")] == ["b", "c d"]
    assert [text for _, text in new_lines(raw, "2026-01-02T03:04:05.12Z")] == ["c d"]
    assert [*new_lines(raw, "2026-01-02T03:04:05.2Z")] == []


def test_changes_of_keys_are_read_from_etcdctl() -> None:
    key = base64.b64encode(b"/services/a/b/book/10.0.0.1:50051").decode()
    line = json.dumps({"Header": {}, "Events": [{"kv": {"key": key}}, {"type": 1, "kv": {"key": key}}]})
    put, gone = changes_in(line, "/services/a/b/book/", 5.0)
    assert put == KeyChange(5.0, "10.0.0.1:50051", deleted=False)
    assert gone == KeyChange(5.0, "10.0.0.1:50051", deleted=True)
    assert changes_in('{"Header":{}}', "/", 5.0) == []
