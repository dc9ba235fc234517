"""OTLP's JSON, how it is posted, and what a collector may answer."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanContext

from meshkit.errors import CollectorUnavailableError, SpansRefusedError
from meshkit.tracing import OtlpExporter
from meshkit.tracing.collector import Answer, Collector
from meshkit.tracing.otlp import MAX_TEXT, encoded_span

URL = "http://127.0.0.1:4318/v1/traces"
RESOURCE = Resource({"service.name": "book-server", "service.instance.id": "a", "process.pid": 7})


class Posts:
    """What the exporter posts, and what it is answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bodies: list[Any] = []
        self.answer = Answer(200, "OK", b"{}")

        def post(collector: Collector, body: bytes) -> Answer:
            compressed = b"Content-Encoding: gzip\r\n" in collector._head
            self.bodies.append(json.loads(gzip.decompress(body) if compressed else body))
            self.compressed = compressed
            return self.answer

        monkeypatch.setattr(Collector, "post", post)


@pytest.fixture
def posts(monkeypatch: pytest.MonkeyPatch) -> Posts:
    return Posts(monkeypatch)


@pytest.mark.parametrize(
    ("number", "json_value"),
    [
        (math.nan, {"doubleValue": "NaN"}),
        (math.inf, {"doubleValue": "Infinity"}),
        (-math.inf, {"doubleValue": "-Infinity"}),
        (2**63, {"stringValue": str(2**63)}),
        (2**63 - 1, {"intValue": str(2**63 - 1)}),
        (None, {}),
        ({"a": 1}, {"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}}),
        ("\ud800", {"stringValue": "\ud800"}),
    ],
)
def test_what_json_has_no_number_for_is_written_as_proto3_says(number: Any, json_value: Any) -> None:
    plain = ReadableSpan("call", SpanContext(1, 1, is_remote=False), attributes={"a": number})
    assert json.loads(encoded_span(plain))["attributes"] == [{"key": "a", "value": json_value}]


def test_long_texts_are_cut() -> None:
    long = "x" * (2 * MAX_TEXT)
    plain = ReadableSpan(long, SpanContext(1, 1, is_remote=False), attributes={"a": long})
    assert len(encoded_span(plain)) < 3 * MAX_TEXT


def test_a_span_without_ids_is_not_encoded() -> None:
    with pytest.raises(ValueError, match="expected a span with ids"):
        encoded_span(ReadableSpan("call"))


def spans_of(count: int) -> Sequence[ReadableSpan]:
    return [ReadableSpan("call", SpanContext(1, number + 1, is_remote=False)) for number in range(count)]


@pytest.mark.parametrize("count", [1, 100])
def test_what_is_large_is_compressed_where_that_is_asked_for(posts: Posts, count: int) -> None:
    OtlpExporter(URL, RESOURCE, compress=True).export(spans_of(count))
    assert posts.compressed == (count == 100)
    (resource,) = posts.bodies[0]["resourceSpans"]
    assert sum(len(scope["spans"]) for scope in resource["scopeSpans"]) == count


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_collector_that_is_overloaded_is_asked_again(posts: Posts, status: int) -> None:
    posts.answer = Answer(status, "Later")
    with pytest.raises(CollectorUnavailableError, match=f"/v1/traces answered {status} Later"):
        OtlpExporter(URL, RESOURCE).export(spans_of(1))


@pytest.mark.parametrize("status", [301, 400, 401, 404, 500])
def test_a_collector_that_refuses_is_not(posts: Posts, status: int) -> None:
    posts.answer = Answer(status, "No")
    with pytest.raises(SpansRefusedError, match=f"answered {status} No"):
        OtlpExporter(URL, RESOURCE).export(spans_of(1))


def test_spans_that_a_collector_says_it_rejected_count_as_refused(posts: Posts) -> None:
    posts.answer = Answer(200, "OK", b'{"partialSuccess": {"rejectedSpans": "2", "errorMessage": "quota"}}')
    with pytest.raises(SpansRefusedError, match="rejected 2 of 3 spans"):
        OtlpExporter(URL, RESOURCE).export(spans_of(3))


@pytest.mark.parametrize("body", [b"", b"{}", b'{"partialSuccess":{}}', b"[1]", b"<html>", b"[" * 10000])
def test_any_other_answer_of_success_is_one(posts: Posts, body: bytes) -> None:
    posts.answer = Answer(200, "OK", body)
    assert OtlpExporter(URL, RESOURCE).export(spans_of(1)) is SpanExportResult.SUCCESS


def test_a_header_that_cannot_be_sent_is_refused_without_its_value() -> None:
    with pytest.raises(ValueError, match="got another as 'x-api-key'") as refused:
        OtlpExporter(URL, RESOURCE, headers={"x-api-key": "S3cret\r\nX: y"})
    assert "S3cret" not in str(refused.value)
