"""What spans tell of their program: in OTLP the resource, in Zipkin tags of the root."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from opentelemetry import trace
from opentelemetry.exporter.zipkin.node_endpoint import NodeEndpoint
from opentelemetry.sdk.trace import SpanProcessor

from meshkit.tracing import SpanEncoder, TraceSettings, tracer_provider
from meshkit.tracing.resource import tags_of

OPERATOR = {
    "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=book-0,service.version=2,team=a%2Cb,service.name=ignored",
    "OTEL_SERVICE_NAME": "shop",
}


def test_a_program_tells_its_name_its_version_and_an_id_of_this_process() -> None:
    found = [tracer_provider("books", version="1.0").resource.attributes for _ in range(2)]
    assert (found[0]["service.name"], found[0]["service.version"]) == ("books", "1.0")
    assert found[0]["telemetry.sdk.language"] == "python"
    ids = {str(each["service.instance.id"]) for each in found}
    assert len(ids) == 2
    assert all(UUID(each).version == 4 for each in ids)


def test_what_the_operator_says_wins() -> None:
    settings = TraceSettings().with_environment(OPERATOR)
    found = tracer_provider("books", version="1.0", settings=settings).resource.attributes
    assert found["service.name"] == "shop"
    assert found["service.version"] == "2"
    assert found["team"] == "a,b"


def test_zipkin_gets_all_but_the_name_and_the_sdk_as_tags_of_the_root() -> None:
    provider = tracer_provider("books", settings=TraceSettings().with_environment(OPERATOR))
    provider.add_span_processor(SpanProcessor())
    tags = tags_of(provider.resource)
    assert sorted(tags) == ["k8s.pod.name", "service.instance.id", "service.version", "team"]
    tracer = provider.get_tracer("test")
    root = tracer.start_span("root")
    child = tracer.start_span("child", trace.set_span_in_context(root))
    encode = SpanEncoder.for_endpoint(NodeEndpoint(), tags)
    assert [b"k8s.pod.name" in encode(cast("Any", span)) for span in (root, child)] == [True, False]
