"""Who writes which headers, and what is read first."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshkit.tracing import Propagation, TraceSettings, tracer_provider
from meshkit.tracing.propagation import DEFAULT_PROPAGATION, propagation_of
from meshkit.tracing.w3c import MAX_BAGGAGE_BYTES, MAX_BAGGAGE_ENTRIES

TRACE, OTHER, SPAN = "463ac35c9f6413ad48485a3953bb6124", "0af7651916cd43dd8448eb211c80319c", "a2fb4a1d1a96d312"
W3C = ("traceparent", f"00-{OTHER}-{SPAN}-01")
MULTI = (("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1"))
SINGLE = ("b3", f"{'c' * 32}-{SPAN}-0")


def context_of(found: Context) -> SpanContext:
    return trace.get_current_span(found).get_span_context()


def tracer_of(settings: TraceSettings) -> trace.Tracer:
    provider = tracer_provider("test", settings=settings)
    provider.add_span_processor(SpanProcessor())
    return provider.get_tracer("test")


def span_in(*names: str, metadata: Any = ()) -> dict[str, str]:
    """What a span that was made under these headers sends on."""
    tracer = tracer_of(TraceSettings(propagators=names))
    propagation = propagation_of(tracer)
    return dict(propagation.headers_of(tracer.start_span("call", propagation.extracted(metadata))))


@pytest.mark.parametrize(
    ("names", "headers"),
    [
        (("b3multi",), ["x-b3-sampled", "x-b3-spanid", "x-b3-traceid"]),
        (("b3",), ["b3"]),
        (("tracecontext",), ["traceparent"]),
        (("baggage",), []),
        (("none",), []),
        (("tracecontext", "b3"), ["b3", "traceparent"]),
    ],
)
def test_those_that_are_named_are_written_and_no_others(names: tuple[str, ...], headers: list[str]) -> None:
    assert sorted(span_in(*names)) == headers


def test_the_single_header_says_what_the_four_say() -> None:
    tracer = tracer_of(TraceSettings())
    span = tracer.start_span("call", DEFAULT_PROPAGATION.extracted(MULTI))
    four = dict(DEFAULT_PROPAGATION.headers_of(span))
    (single,) = Propagation(["b3"]).headers_of(span)
    assert single == ("b3", "-".join(four[f"x-b3-{name}"] for name in ("traceid", "spanid", "sampled", "parentspanid")))


@pytest.mark.parametrize("state", ["", "vendor=1,other@tenant=a b"])
@pytest.mark.parametrize("flags", ["00", "01", "03"])
def test_traceparent_is_read_and_written_as_opentelemetry_does(flags: str, state: str) -> None:
    headers = [("traceparent", f"00-{OTHER}-{SPAN}-{flags}"), *([("tracestate", state)] if state else [])]
    ours = context_of(Propagation(["tracecontext"]).extracted(headers))
    theirs = context_of(TraceContextTextMapPropagator().extract(dict(headers), Context()))
    assert ours == theirs
    span = trace.NonRecordingSpan(ours)
    sent: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(sent, trace.set_span_in_context(span))
    assert dict(Propagation(["tracecontext"]).headers_of(span)) == sent


@pytest.mark.parametrize(
    "parent",
    [
        "",
        f"ff-{OTHER}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{OTHER}-{'0' * 16}-01",
        f"00-{OTHER.upper()}-{SPAN}-01",
        f"00-{OTHER}-{SPAN}-01-more",
        f"00-{OTHER}-{SPAN}",
        "é" * 55,
    ],
)
def test_a_malformed_traceparent_starts_a_new_trace(parent: str) -> None:
    assert not context_of(DEFAULT_PROPAGATION.extracted([("traceparent", parent)])).is_valid


def test_a_traceparent_of_a_later_version_is_read() -> None:
    assert context_of(DEFAULT_PROPAGATION.extracted([("traceparent", f"cc-{OTHER}-{SPAN}-01-more")])).is_valid


@pytest.mark.parametrize("state", ["a=1," * 40, "no entry", "a=" + "x" * 3000])
def test_a_tracestate_that_is_malformed_or_too_long_is_dropped_and_the_trace_goes_on(state: str) -> None:
    found = context_of(DEFAULT_PROPAGATION.extracted([W3C, ("tracestate", state)]))
    assert found.is_valid
    assert not found.trace_state


@pytest.mark.parametrize(
    ("names", "metadata", "trace_id"),
    [
        ("b3multi", [W3C, *MULTI, SINGLE], "c" * 32),
        ("b3multi", [W3C, *MULTI], TRACE),
        ("b3multi", [W3C], OTHER),
        ("b3multi", [W3C, ("x-b3-sampled", "0")], OTHER),
        ("b3multi", [W3C, ("b3", "nonsense")], OTHER),
        ("b3,tracecontext", [W3C, *MULTI], TRACE),
        ("tracecontext,b3", [W3C, *MULTI], OTHER),
        ("tracecontext", [*MULTI], TRACE),
        ("tracecontext", [("traceparent", "nonsense"), SINGLE], "c" * 32),
        ("none", [W3C], OTHER),
    ],
)
def test_all_are_read_in_the_order_that_is_stated(names: str, metadata: Any, trace_id: str) -> None:
    found = context_of(Propagation(names.split(",")).extracted(metadata))
    assert f"{found.trace_id:032x}" == trace_id


def test_a_trace_id_of_64_bits_keeps_its_width_through_w3c() -> None:
    short = [("b3", f"48485a3953bb6124-{SPAN}-1")]
    assert span_in("tracecontext", metadata=short)["traceparent"].startswith("00-000000000000000048485a3953bb6124-")
    back = [("traceparent", f"00-000000000000000048485a3953bb6124-{SPAN}-01")]
    assert span_in("b3multi", metadata=back)["x-b3-traceid"] == "48485a3953bb6124"


def test_the_callers_no_is_passed_on_in_each_form() -> None:
    assert span_in("b3", metadata=[("traceparent", f"00-{OTHER}-{SPAN}-00")])["b3"].split("-")[2] == "0"
    assert span_in("tracecontext", metadata=[SINGLE])["traceparent"].endswith("-00")


def test_debug_survives_a_hop_that_knows_w3c_only() -> None:
    sent = span_in("tracecontext", metadata=[*MULTI, ("x-b3-flags", "1")])
    assert span_in("b3multi", metadata=sent.items())["x-b3-flags"] == "1"


def passed_on(metadata: Any, *names: str) -> dict[str, str]:
    token = otel_context.attach(Propagation(names).extracted(metadata))
    try:
        return dict(Propagation(names).headers_of(trace.get_current_span()))
    finally:
        otel_context.detach(token)


def test_baggage_is_read_always_and_passed_on_where_it_is_named() -> None:
    metadata = [W3C, ("baggage", "user=a%20b%2Cc ; secret=1, empty=, =none, bad name=1")]
    assert dict(baggage.get_all(DEFAULT_PROPAGATION.extracted(metadata))) == {"user": "a b,c", "empty": ""}
    assert passed_on(metadata, "baggage") == {"baggage": "user=a%20b%2Cc,empty="}
    assert "baggage" not in passed_on(metadata, "b3multi")


def test_baggage_is_bounded_on_the_way_in_and_out() -> None:
    entries = ",".join(f"key{number}={'v' * 50}" for number in range(MAX_BAGGAGE_ENTRIES + 10))
    assert len(baggage.get_all(DEFAULT_PROPAGATION.extracted([("baggage", entries)]))) == MAX_BAGGAGE_ENTRIES
    assert not baggage.get_all(DEFAULT_PROPAGATION.extracted([("baggage", "a=" + "v" * MAX_BAGGAGE_BYTES)]))
    token = otel_context.attach(baggage.set_baggage("a", "v" * MAX_BAGGAGE_BYTES, Context()))
    assert Propagation(["baggage"]).headers_of(trace.INVALID_SPAN) == ()
    otel_context.detach(token)


@pytest.mark.parametrize("names", [[], ["xray"], ["b3", "none"]])
def test_names_that_cannot_be_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="expected none, or some of b3multi, b3, tracecontext, baggage"):
        Propagation(names)


def test_a_tracer_of_others_has_b3() -> None:
    assert propagation_of(trace.NoOpTracer()) is DEFAULT_PROPAGATION
    flags = TraceFlags(TraceFlags.SAMPLED)
    headers = DEFAULT_PROPAGATION.headers_of(trace.NonRecordingSpan(SpanContext(1, 1, False, flags)))
    assert dict(headers)["x-b3-traceid"] == "0000000000000001"
