"""OTLP's JSON as OpenTelemetry's own encoder writes it: a thousand spans of all kinds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from meshkit.tracing import OtlpExporter
from meshkit.tracing.collector import Answer, Collector

RESOURCE = Resource({"service.name": "book-server", "service.instance.id": "a", "process.pid": 7})
SCOPE = InstrumentationScope("meshkit", "1.0")


def text(random: Random) -> str:
    some = ["plain", "", "Go入门系列", 'quo"te\\', "\n\t\x00\x1f", "\U0001f600", "\u202e", "é" * 90, "x" * 200]
    return random.choice(some)


def value(random: Random) -> Any:
    return random.choice(
        [
            text(random),
            random.getrandbits(63) - 2**62,
            0,
            1,
            True,
            False,
            1.0,
            random.random(),
            1e300,
            [text(random), "b"],
            (1, 2),
            [True, False],
            [0.5],
            b"\x00\xff",
        ]
    )


def attributes(random: Random) -> dict[str, Any]:
    return {f"key.{random.randrange(5)}": value(random) for _ in range(random.randrange(6))}


def context(random: Random) -> SpanContext:
    state = TraceState([("a", "1"), ("b3", "debug")]) if random.random() < 0.2 else None
    bits = random.choice([64, 128])
    flags = TraceFlags(random.choice([1, 3]))
    return SpanContext(random.getrandbits(bits) or 1, random.getrandbits(64) or 1, random.random() < 0.5, flags, state)


def span(random: Random) -> ReadableSpan:
    start = random.getrandbits(62)
    status = random.choice([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, text(random) or None)])
    return ReadableSpan(
        name=text(random) or "call",
        context=context(random),
        parent=context(random) if random.random() < 0.7 else None,
        resource=RESOURCE,
        attributes=attributes(random),
        events=[Event(text(random), attributes(random), start) for _ in range(random.randrange(3))],
        links=[Link(context(random), attributes(random)) for _ in range(random.randrange(2))],
        kind=random.choice(list(SpanKind)),
        status=status,
        start_time=start,
        end_time=start + random.getrandbits(40),
        instrumentation_scope=random.choice([SCOPE, InstrumentationScope("other")]),
    )


def bare(found: Any) -> Any:
    """Without what says nothing in proto3's JSON: the default of its field."""
    if isinstance(found, dict):
        kept = {key: bare(each) for key, each in found.items()}
        # A value's own fields say its type, also where they hold nothing.
        return {key: each for key, each in kept.items() if each not in ("", [], {}, 0) or key.endswith("Value")}
    return [bare(each) for each in found] if isinstance(found, list) else found


def by_id(request: Any) -> Iterator[tuple[str, Any]]:
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for each in scope["spans"]:
                key = "/".join((scope["scope"]["name"], scope["scope"].get("version", ""), each["spanId"]))
                yield key, bare(each | {"resource": resource["resource"]})


def test_a_thousand_spans_are_encoded_as_opentelemetrys_own_exporter_does(monkeypatch: pytest.MonkeyPatch) -> None:
    random = Random(19)
    spans = [span(random) for _ in range(1000)]
    posted: list[bytes] = []

    def post(_: Collector, body: bytes) -> Answer:
        posted.append(body)
        return Answer(200, "OK")

    monkeypatch.setattr(Collector, "post", post)
    OtlpExporter("http://127.0.0.1:4318/v1/traces", RESOURCE).export(spans)
    ours, theirs = (dict(by_id(json.loads(body))) for body in (posted[0], encode_spans(spans).to_json()))
    assert len(ours) == 1000
    assert ours.keys() == theirs.keys()
    for key, each in ours.items():
        assert each == theirs[key]
