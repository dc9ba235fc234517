"""The script that `helm test` runs: which traces it takes for whole."""

from __future__ import annotations

import base64
import copy
import time
import urllib.error
from types import ModuleType
from typing import Any

import pytest

from tests.support.chart import CHART
from tests.support.modules import module_of

INSTANCE = "10.244.1.5:50051"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    return module_of(CHART / "files/check.py")


def span(number: str, parent: str | None, kind: str | None, name: str, host: str = "10.244.1.5") -> dict[str, Any]:
    made: dict[str, Any] = {"id": number, "name": name, "localEndpoint": {"ipv4": "10.244.2.9"}, "tags": {}}
    if parent:
        made["parentId"] = parent
    if kind:
        made["kind"] = kind
    if kind == "CLIENT":
        made["remoteEndpoint"] = {"ipv4": host, "port": 50051}
    if kind == "SERVER":
        made["localEndpoint"] = {"ipv4": host, "port": 50051}
    return made


WHOLE = [
    span("1", None, None, "bookcaller"),
    span("2", "1", "CLIENT", "bookservice/getbookinfo"),
    span("3", "2", "SERVER", "bookservice/getbookinfo"),
    span("4", "1", "CLIENT", "bookservice/getbooklist"),
    span("5", "4", "SERVER", "bookservice/getbooklist"),
]


def test_five_spans_of_one_call_are_a_whole_trace(check: ModuleType) -> None:
    assert list(check.flaws(WHOLE, INSTANCE, 1)) == []


@pytest.mark.parametrize("missing", range(5))
def test_a_trace_that_lacks_any_span_is_not_whole(check: ModuleType, missing: int) -> None:
    assert list(check.flaws(WHOLE[:missing] + WHOLE[missing + 1 :], INSTANCE, 1))


def test_no_span_at_all_is_no_trace(check: ModuleType) -> None:
    assert "expected one root, got []" in list(check.flaws([], INSTANCE, 1))


@pytest.mark.parametrize("index", [2, 4])
def test_a_server_span_of_another_trace_context_is_noticed(check: ModuleType, index: int) -> None:
    spans = copy.deepcopy(WHOLE)
    spans[index]["parentId"] = "1"
    assert "below its CLIENT span, got []" in "".join(check.flaws(spans, INSTANCE, 1))


def test_an_answer_from_another_instance_than_the_one_called_is_noticed(check: ModuleType) -> None:
    spans = copy.deepcopy(WHOLE)
    spans[4]["localEndpoint"] = {"ipv4": "10.244.1.6", "port": 50051}
    assert "10.244.1.6" in "".join(check.flaws(spans, INSTANCE, 1))


@pytest.mark.parametrize("index", [1, 3])
def test_a_missing_remote_endpoint_is_noticed(check: ModuleType, index: int) -> None:
    spans = copy.deepcopy(WHOLE)
    del spans[index]["remoteEndpoint"]
    assert "to be called at 10.244.1.5" in "".join(check.flaws(spans, INSTANCE, 1))


def test_a_retried_call_has_to_show_the_attempt_that_failed(check: ModuleType) -> None:
    assert "failed attempts" in "".join(check.flaws(WHOLE, INSTANCE, 2))
    failed = span("6", "1", "CLIENT", "bookservice/getbookinfo", "10.244.1.6")
    failed["tags"] = {"error": "UNAVAILABLE"}
    assert list(check.flaws([*WHOLE, failed], INSTANCE, 2)) == []


def test_a_zipkin_that_does_not_answer_yet_is_asked_again(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [urllib.error.URLError("connection refused"), TimeoutError("timed out"), [], WHOLE]

    def stored(zipkin: str, trace_id: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(check, "stored", stored)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    call = {"trace_id": "a", "instance": INSTANCE, "attempts": 1}
    check.see_trace(check.zipkin_of("http://zipkin:9411"), call, time.monotonic() + 60)
    assert answers == []


def test_a_zipkin_that_never_answers_is_named(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def stored(zipkin: str, trace_id: str) -> Any:
        raise urllib.error.URLError("connection refused")

    monkeypatch.setattr(check, "stored", stored)
    call = {"trace_id": "a", "instance": INSTANCE, "attempts": 1}
    with pytest.raises(SystemExit, match=r"http://zipkin:9411: .*connection refused"):
        check.see_trace(check.zipkin_of("http://zipkin:9411"), call, 0.0)


@pytest.mark.parametrize(
    ("collector", "url", "login"),
    [
        ("http://zipkin:9411/api/v2/spans", "http://zipkin:9411", None),
        ("https://zipkin.infra/traces/api/v2/spans?key=secret", "https://zipkin.infra/traces", None),
        ("https://books:s%40cret@zipkin.infra/api/v2/spans", "https://zipkin.infra", b"books:s@cret"),
        ("http://[fd00::9]:9411/api/v2/spans", "http://[fd00::9]:9411", None),
    ],
)
def test_a_password_in_the_collectors_url_becomes_a_header(
    check: ModuleType, collector: str, url: str, login: bytes | None
) -> None:
    zipkin = check.zipkin_of(collector)
    assert zipkin.url == url
    assert zipkin.headers == ({"Authorization": f"Basic {base64.b64encode(login).decode()}"} if login else {})
