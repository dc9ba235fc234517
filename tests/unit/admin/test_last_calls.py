"""Calls as they are read off their spans."""

from typing import Any

import grpc
import pytest
from opentelemetry.trace import SpanKind, set_span_in_context

from meshkit.admin.last_calls import A_SECOND, KEPT, LastCalls
from meshkit.testing import MemorySpans
from meshkit.tracing.attributes import NEW, OLD, Conventions, record_status


@pytest.fixture(params=[OLD, NEW], ids=["old names", "new names"])
def conventions(request: Any) -> Any:
    return request.param


def made(calls: LastCalls) -> Any:
    tracer: Any = MemorySpans().tracer
    tracer.provider.add_span_processor(calls)
    return tracer


def call(tracer: Any, conventions: Conventions, *codes: grpc.StatusCode, start: int = 0, took: int = 1) -> None:
    """One call that was answered so, attempt by attempt, each by another port."""
    root = tracer.start_span("call", start_time=start)
    root.conventions = conventions
    for port, code in enumerate(codes):
        attributes = {"server.address": "127.0.0.1", "server.port": port}
        span = tracer.start_span("Book/Get", set_span_in_context(root), SpanKind.CLIENT, attributes, start_time=start)
        span.conventions = conventions
        record_status(span, code, None)
        span.end(start + took)
    if codes[-1] is not grpc.StatusCode.OK:
        record_status(root, codes[-1], "no luck")
    root.end(start + took)


def test_a_call_has_its_attempts_its_status_and_its_trace(conventions: Conventions) -> None:
    calls = LastCalls()
    told: list[Any] = []
    calls.told = told.append
    tracer = made(calls)
    call(tracer, conventions, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK)
    (kept,) = calls.kept
    assert told == [kept]
    assert kept["code"] == "OK"
    assert [(each["instance"], each["code"]) for each in kept["attempts"]] == [
        ("127.0.0.1:0", "UNAVAILABLE"),
        ("127.0.0.1:1", "OK"),
    ]
    assert len(kept["trace"]) == 32
    assert calls.failed_at("127.0.0.1:0") == kept["trace"]
    assert calls.failed_at("127.0.0.1:1") is None
    call(tracer, conventions, grpc.StatusCode.INTERNAL)
    assert calls.kept[-1]["code"] == "INTERNAL"


def test_of_many_calls_in_a_second_the_remarkable_ones_are_kept() -> None:
    calls = LastCalls()
    tracer = made(calls)
    second = 1_000_000_000
    for number in range(5 * A_SECOND):
        call(tracer, OLD, grpc.StatusCode.OK, start=second + number, took=1000)
    call(tracer, OLD, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK, start=second + 100, took=1000)
    assert len(calls.kept) == A_SECOND
    call(tracer, OLD, grpc.StatusCode.OK, start=2 * second)
    call(tracer, OLD, *[grpc.StatusCode.OK] * 1, start=2 * second)
    assert len(calls.kept) == A_SECOND + 2


def test_a_bounded_number_is_kept() -> None:
    calls = LastCalls()
    tracer = made(calls)
    for number in range(2 * KEPT):
        call(tracer, OLD, grpc.StatusCode.OK, start=number * 1_000_000_000)
    assert len(calls.kept) == KEPT
