"""The names of the spans' attributes, and which statuses are failures on which side."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from meshkit.tracing import TraceSettings, tracer_provider
from meshkit.tracing.attributes import SERVER_ERRORS, conventions_of, record_status

OLD_TAGS = {"rpc.system": "grpc", "rpc.service": "BookService", "rpc.method": "GetBookInfo", "rpc.grpc.status_code": 5}
NEW_TAGS = {"rpc.system.name": "grpc", "rpc.method": "BookService/GetBookInfo", "rpc.status_code": "NOT_FOUND"}
SERVER = {"server.address": "10.0.0.1", "server.port": 50051}
PEER = {"network.peer.address": "10.0.0.1", "network.peer.port": 50051}


def span_of(kind: SpanKind, code: grpc.StatusCode, opt_in: str = "") -> Any:
    spans = InMemorySpanExporter()
    settings = TraceSettings().with_environment({"OTEL_SEMCONV_STABILITY_OPT_IN": opt_in})
    provider = tracer_provider("test", settings=settings)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("test")
    names = conventions_of(tracer)
    attributes = names.call("/BookService/GetBookInfo")
    if kind is SpanKind.CLIENT:
        attributes |= names.server("10.0.0.1", 50051)
    with tracer.start_span("call", kind=kind, attributes=attributes) as span:
        record_status(span, code, "why")
    return spans.get_finished_spans()[0]


@pytest.mark.parametrize(
    ("opt_in", "tags"),
    [
        ("", OLD_TAGS | SERVER),
        ("http,databases", OLD_TAGS | SERVER),
        ("http/dup, rpc", NEW_TAGS | SERVER | PEER | {"error.type": "NOT_FOUND"}),
        ("rpc/dup", OLD_TAGS | NEW_TAGS | SERVER | PEER | {"error.type": "NOT_FOUND"}),
        ("rpc,rpc/dup", OLD_TAGS | NEW_TAGS | SERVER | PEER | {"error.type": "NOT_FOUND"}),
    ],
)
def test_the_names_are_the_old_ones_unless_the_new_are_asked_for(opt_in: str, tags: dict[str, Any]) -> None:
    assert dict(span_of(SpanKind.CLIENT, grpc.StatusCode.NOT_FOUND, opt_in).attributes) == tags


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_a_server_fails_by_six_statuses_and_a_client_by_all_but_ok(code: grpc.StatusCode) -> None:
    failed = {kind: span_of(kind, code).status.status_code is StatusCode.ERROR for kind in SpanKind}
    assert failed[SpanKind.SERVER] == (code in SERVER_ERRORS)
    assert failed[SpanKind.CLIENT] == failed[SpanKind.INTERNAL] == (code is not grpc.StatusCode.OK)


def test_what_is_no_failure_has_no_error_type() -> None:
    tags = span_of(SpanKind.SERVER, grpc.StatusCode.RESOURCE_EXHAUSTED, "rpc").attributes
    assert tags["rpc.status_code"] == "RESOURCE_EXHAUSTED"
    assert "error.type" not in tags
