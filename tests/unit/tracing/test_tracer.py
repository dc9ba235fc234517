"""Spans of our own, held against the SDK's."""

import time
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Status, StatusCode

from meshkit.tracing import b3_sampler, trace_id_of
from meshkit.tracing.b3 import B3RootSampler, headers_of
from meshkit.tracing.propagation import DEFAULT_PROPAGATION
from meshkit.tracing.tracer import LightTracerProvider


def facts(span: ReadableSpan) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind,
        "attributes": dict(span.attributes or {}),
        "events": [(event.name, sorted(event.attributes or {})) for event in span.events],
        "links": [link.context for link in span.links],
        "status": (span.status.status_code, span.status.description),
        "times": (span.start_time, span.end_time),
        "child": span.parent is not None,
    }


def one_of_each(provider: TracerProvider) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("parent", attributes={"a": 1}) as parent:
        link = trace.SpanContext(7, 7, is_remote=True)
        child: Any = tracer.start_span("child", kind=trace.SpanKind.CLIENT, links=[trace.Link(link)], start_time=5)
        child.set_attribute("b", "x")
        child.set_attributes({"c": True})
        child.add_event("event", {"d": 1.5}, 6)
        child.set_status(Status(StatusCode.ERROR, "failed"))
        child.update_name("renamed")
        child.end(9)
        child.set_attribute("too", "late")
        child.set_status(StatusCode.OK)
        child.end(10)
    with pytest.raises(ValueError, match="oops"), tracer.start_as_current_span("failing"):
        raise ValueError("oops")
    spans = list(exporter.get_finished_spans())
    assert [span.name for span in spans] == ["renamed", "parent", "failing"]
    assert spans[0].parent is not None
    assert spans[0].parent.span_id == parent.get_span_context().span_id
    assert len({span.context.span_id for span in spans if span.context}) == 3
    return spans


def test_they_tell_processors_what_the_sdks_tell() -> None:
    ours = one_of_each(LightTracerProvider(B3RootSampler(), Resource({})))
    theirs = one_of_each(TracerProvider(sampler=b3_sampler(), resource=Resource({}), shutdown_on_exit=False))
    for own, sdk in zip(map(facts, ours), map(facts, theirs), strict=True):
        if own["name"] != "renamed":  # only that one has times of the test's own
            own.pop("times"), sdk.pop("times")
        assert own == sdk


def test_an_unsampled_span_records_nothing_and_passes_its_context_on() -> None:
    provider = LightTracerProvider(B3RootSampler(), Resource({}))
    provider.add_span_processor(SpanProcessor())
    parent = trace.SpanContext(7, 7, is_remote=True)
    context = trace.set_span_in_context(trace.NonRecordingSpan(parent))
    span = provider.get_tracer("test").start_span("child", context)
    assert not span.is_recording()
    assert span.get_span_context().trace_id == 7
    assert span.get_span_context().span_id != 7


def test_where_nobody_processes_spans_no_trace_begins_and_that_of_a_caller_is_passed_on() -> None:
    tracer = LightTracerProvider(B3RootSampler(), Resource({})).get_tracer("test")
    own = tracer.start_span("root")
    assert not own.is_recording()
    assert headers_of(own) == ()
    assert not trace_id_of(own)
    headers = (("x-b3-traceid", "1" * 32), ("x-b3-spanid", "2" * 16), ("x-b3-sampled", "0"))
    handled = tracer.start_span("server", DEFAULT_PROPAGATION.extracted(headers))
    called = tracer.start_span("client", trace.set_span_in_context(handled))
    assert headers_of(called) == headers


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_wall_clock_that_is_set_meanwhile_changes_no_spans_length(jump: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = InMemorySpanExporter()
    provider = LightTracerProvider(B3RootSampler(), Resource({}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    span: Any = provider.get_tracer("test").start_span("call")
    wall = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: wall() + jump * 10**9)
    span.add_event("attempt failed")
    span.end()
    (ended,) = exporter.get_finished_spans()
    start, end = ended.start_time or 0, ended.end_time or 0
    assert start <= ended.events[0].timestamp <= end < start + 60 * 10**9
