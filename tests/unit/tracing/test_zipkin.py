"""Read back with the package's own generated classes: an independent decoder of the same protobuf."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.zipkin.node_endpoint import NodeEndpoint
from opentelemetry.exporter.zipkin.proto.http.v2.gen import zipkin_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, Status, StatusCode

from meshkit.tracing import B3Propagator, SpanEncoder, b3_sampler, trace_id_of
from meshkit.tracing.b3 import B3RootSampler
from meshkit.tracing.tracer import LightTracerProvider

tracer = TracerProvider(sampler=b3_sampler(), shutdown_on_exit=False).get_tracer("test")
light_provider = LightTracerProvider(B3RootSampler(), Resource({}))
light_provider.add_span_processor(SpanProcessor())
light_tracer = light_provider.get_tracer("test")


def encoded(*spans: Any, ipv4: str | None = "10.0.0.7", ipv6: str | None = None, port: int | None = 50051) -> Any:
    node = NodeEndpoint(ipv4, ipv6, port)
    node.service_name = "book-server"
    return zipkin_pb2.ListOfSpans.FromString(SpanEncoder().serialize(spans, node)).spans


def ended(**options: Any) -> Any:
    span = tracer.start_span("BookService/GetBookInfo", start_time=1_000_000_000_000_499, **options)
    span.end(end_time=1_000_000_250_000_600)
    return span


def test_ids_times_and_names() -> None:
    span = ended(kind=SpanKind.SERVER)
    (read,) = encoded(span)
    assert read.trace_id.hex() == trace_id_of(span)
    assert read.id.hex() == f"{span.get_span_context().span_id:016x}"
    assert read.parent_id == b""
    assert read.name == "BookService/GetBookInfo"
    assert read.kind == zipkin_pb2.Span.SERVER
    assert read.timestamp == 1_000_000_000_000
    assert read.duration == 250_000
    assert not read.debug
    assert not read.shared


@pytest.mark.parametrize("kind", [SpanKind.CLIENT, SpanKind.SERVER, SpanKind.PRODUCER, SpanKind.CONSUMER])
def test_kinds(kind: SpanKind) -> None:
    (read,) = encoded(ended(kind=kind))
    assert zipkin_pb2.Span.Kind.Name(read.kind) == kind.name


def test_an_internal_span_has_no_kind() -> None:
    (read,) = encoded(ended())
    assert read.kind == zipkin_pb2.Span.SPAN_KIND_UNSPECIFIED


def test_local_and_remote_endpoint() -> None:
    attributes = {"server.address": "10.0.0.9", "server.port": 50052}
    (read,) = encoded(ended(kind=SpanKind.CLIENT, attributes=attributes))
    assert read.local_endpoint.service_name == "book-server"
    assert read.local_endpoint.ipv4 == bytes([10, 0, 0, 7])
    assert read.local_endpoint.port == 50051
    assert read.remote_endpoint.ipv4 == bytes([10, 0, 0, 9])
    assert read.remote_endpoint.port == 50052
    assert dict(read.tags) == {"server.address": "10.0.0.9", "server.port": "50052"}


def test_ipv6_and_unknown_addresses() -> None:
    (read,) = encoded(ended(), ipv4=None, ipv6="::1", port=None)
    assert read.local_endpoint.ipv6 == bytes(15) + b"\x01"
    (read,) = encoded(ended(kind=SpanKind.CLIENT, attributes={"server.address": "books.example", "server.port": 1}))
    assert read.remote_endpoint.ipv4 == b""
    assert read.remote_endpoint.port == 1


def test_a_failed_span_has_an_error_tag_and_others_have_none() -> None:
    failed = tracer.start_span("x")
    failed.set_status(Status(StatusCode.ERROR, "UNAVAILABLE: connection refused"))
    failed.end()
    read_failed, read_good = encoded(failed, ended())
    assert read_failed.tags["error"] == "UNAVAILABLE: connection refused"
    assert "error" not in read_good.tags


def test_debug_only_where_the_caller_asked_for_it() -> None:
    context = B3Propagator().extract({"x-b3-flags": "1"}, Context())
    read_debug, read_other = encoded(ended(context=context), ended())
    assert read_debug.debug
    assert not read_other.debug


def test_a_64_bit_trace_id_stays_one() -> None:
    headers = {"x-b3-traceid": "48485a3953bb6124", "x-b3-spanid": "a2fb4a1d1a96d312"}
    (read,) = encoded(ended(context=B3Propagator().extract(headers, Context())))
    assert read.trace_id.hex() == "48485a3953bb6124"
    assert read.parent_id.hex() == "a2fb4a1d1a96d312"


def test_long_values_are_cut_between_characters() -> None:
    (read,) = encoded(ended(attributes={"title": "书" * 1000}))
    assert read.tags["title"] == "书" * 85


def test_events_become_annotations() -> None:
    span = tracer.start_span("x")
    span.add_event("retrying", timestamp=5_000)
    span.end()
    (read,) = encoded(span)
    assert [(a.timestamp, a.value) for a in read.annotations] == [(5, "retrying")]


texts = st.text(max_size=300)


@given(
    name=texts,
    kind=st.sampled_from(SpanKind),
    start=st.integers(0, 2**60),
    took=st.integers(0, 2**50),
    tags=st.dictionaries(texts, texts | st.booleans() | st.integers() | st.floats(), max_size=5),
    port=st.integers(0, 65535),
)
def test_whatever_a_span_holds_protobufs_decoder_reads_it_back(  # noqa: PLR0917
    name: str, kind: SpanKind, start: int, took: int, tags: dict[str, Any], port: int
) -> None:
    attributes = {**tags, "server.address": "10.0.0.9", "server.port": port}
    for maker in (tracer, light_tracer):
        span: Any = maker.start_span(name, kind=kind, start_time=start, attributes=attributes)
        span.end(end_time=start + took)
        (read,) = encoded(span)
        assert read.timestamp == (start + 500) // 1000
        assert read.duration == max(1, (took + 500) // 1000)
        assert read.name == cut(name)
        assert dict(read.tags) == {cut(key): cut(str(value)) for key, value in span.attributes.items()}
        assert read.remote_endpoint.port == (port if kind is SpanKind.CLIENT else 0)


def cut(text: str) -> str:
    return text.encode(errors="replace")[:256].decode(errors="ignore")


# What no span should hold; Zipkin refuses a whole request for one that it cannot read or store.
ODD: dict[str, dict[str, Any]] = {
    "a port that is none": {"attributes": {"server.address": "10.0.0.9", "server.port": 70000}},
    "a negative port": {"attributes": {"server.address": "10.0.0.9", "server.port": -1}},
    "a port that is no number": {"attributes": {"server.address": "10.0.0.9", "server.port": "http"}},
    "ports": {"attributes": {"server.address": "10.0.0.9", "server.port": [1, 2]}},
    "half a surrogate": {"attributes": {"\ud800": "\ud800"}},
    "attributes of any type": {"attributes": {"a": None, "b": {"c": [object()]}, "d": b"\xff", "e": 2**70}},
    "a start before 1970": {"start_time": -1_000_000_000},
    "a start that no clock knows": {"start_time": 2**80},
    "an event before 1970": {"event": -1},
}


def odd(kind: str) -> Any:
    options = dict(ODD[kind])
    event = options.pop("event", None)
    span: Any = light_tracer.start_span("odd \ud800", kind=SpanKind.CLIENT, **{"start_time": 1_000, **options})
    if event is not None:
        span.add_event("event", timestamp=event)
    span.end(end_time=2_000_000)
    return span


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_span_is_one_that_zipkin_takes(kind: str) -> None:
    (read,) = encoded(odd(kind))
    assert 0 <= read.remote_endpoint.port <= 65535
    assert 0 <= read.timestamp < 2**63
    assert 0 < read.duration < 2**63
    assert all(0 <= annotation.timestamp < 2**63 for annotation in read.annotations)
