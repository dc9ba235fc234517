"""OpenTelemetry's variables, one test each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from meshkit.tracing import TraceSettings, tracer_provider
from meshkit.tracing.attributes import NEW
from meshkit.tracing.propagation import DEFAULT_PROPAGATION

OTLP: list[tuple[str, str, dict[str, Any]]] = [
    ("PROTOCOL", "http/json", {"otlp_protocol": "http/json"}),
    ("HEADERS", "api-key=a%20b%3D, tenant = t", {"otlp_headers": {"api-key": "a b=", "tenant": "t"}}),
    ("TIMEOUT", "1500", {"otlp_timeout": 1.5}),
    ("COMPRESSION", "gzip", {"otlp_gzip": True}),
    ("COMPRESSION", "none", {"otlp_gzip": False}),
    ("CERTIFICATE", "/tls/ca.crt", {"otlp_ca": Path("/tls/ca.crt")}),
    ("CLIENT_CERTIFICATE", "/tls/tls.crt", {"otlp_cert": Path("/tls/tls.crt")}),
    ("CLIENT_KEY", "/tls/tls.key", {"otlp_key": Path("/tls/tls.key")}),
]
READ: list[tuple[str, str, dict[str, Any]]] = [
    ("OTEL_SDK_DISABLED", "True", {"disabled": True}),
    ("OTEL_SDK_DISABLED", "false", {"disabled": False}),
    ("OTEL_PROPAGATORS", "tracecontext, baggage", {"propagators": ("tracecontext", "baggage")}),
    ("OTEL_PROPAGATORS", "none", {"propagators": ("none",)}),
    ("OTEL_PROPAGATORS", "xray,b3", {"propagators": ("b3",)}),
    ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio", {"sampler": "parentbased_traceidratio"}),
    ("OTEL_TRACES_SAMPLER_ARG", "0.25", {"ratio": 0.25}),
    ("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "http://zipkin:9411/api/v2/spans", {"zipkin": "http://zipkin:9411/api/v2/spans"}),
    ("OTEL_EXPORTER_ZIPKIN_TIMEOUT", "2500", {"zipkin_timeout": 2.5}),
    ("OTEL_SERVICE_NAME", "shop", {"service": "shop"}),
    ("OTEL_RESOURCE_ATTRIBUTES", "team=a%2Cb,k8s.pod.name=p", {"resource": {"team": "a,b", "k8s.pod.name": "p"}}),
    ("OTEL_SEMCONV_STABILITY_OPT_IN", "rpc", {"conventions": NEW}),
    ("OTEL_TRACES_EXPORTER", "otlp", {"exporters": ("otlp",)}),
    ("OTEL_TRACES_EXPORTER", "console, zipkin,otlp", {"exporters": ("zipkin", "otlp")}),
    ("OTEL_TRACES_EXPORTER", "none", {"exporters": ("none",)}),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318/base/", {"otlp": "https://collector:4318/base/v1/traces"}),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/as/is", {"otlp": "http://collector:4318/as/is"}),
    *((f"OTEL_EXPORTER_OTLP_{each}", text, changes) for each, text, changes in OTLP),
    *((f"OTEL_EXPORTER_OTLP_TRACES_{each}", text, changes) for each, text, changes in OTLP),
]
REFUSED = [
    ("OTEL_SDK_DISABLED", "yes"),
    ("OTEL_PROPAGATORS", "xray,jaeger"),
    ("OTEL_PROPAGATORS", "none,b3"),
    ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
    ("OTEL_TRACES_SAMPLER_ARG", "1.5"),
    ("OTEL_TRACES_SAMPLER_ARG", "nan"),
    ("OTEL_TRACES_SAMPLER_ARG", "much"),
    ("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "zipkin:9411"),
    ("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "http://zipkin:port/"),
    ("OTEL_EXPORTER_ZIPKIN_TIMEOUT", "0"),
    ("OTEL_TRACES_EXPORTER", "console"),
    ("OTEL_TRACES_EXPORTER", "none,otlp"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
    ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
    ("OTEL_RESOURCE_ATTRIBUTES", "team"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "no value"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%0d%0aX: y"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
    ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
]


@pytest.mark.parametrize(("variable", "text", "changes"), READ)
def test_a_variable_is_read(variable: str, text: str, changes: dict[str, Any]) -> None:
    found = TraceSettings().with_environment({variable: text})
    assert {name: getattr(found, name) for name in changes} == changes


@pytest.mark.parametrize(("variable", "text"), REFUSED)
def test_a_value_of_no_use_is_told_of_once_and_ignored(variable: str, text: str) -> None:
    with structlog.testing.capture_logs() as logged:
        assert TraceSettings().with_environment({variable: text}) == TraceSettings()
    assert [(line["event"], line["variable"]) for line in logged if "variable" in line] == [
        ("variable ignored", variable)
    ]


@pytest.mark.parametrize("variable", sorted({variable for variable, *_ in READ}))
def test_an_empty_variable_counts_as_none(variable: str) -> None:
    assert TraceSettings().with_environment({variable: " "}) == TraceSettings()


def test_a_secret_in_a_variable_is_not_logged() -> None:
    with structlog.testing.capture_logs() as logged:
        TraceSettings().with_environment({"OTEL_EXPORTER_ZIPKIN_ENDPOINT": "ftp://user:S3cret@zipkin/?key=K3Y"})
    assert logged
    assert "S3cret" not in str(logged)
    assert "K3Y" not in str(logged)


def test_disabled_begins_no_trace_and_passes_on_that_of_a_caller() -> None:
    settings = TraceSettings(zipkin="http://127.0.0.1:1/api/v2/spans", disabled=True)
    tracer = tracer_provider("test", settings=settings).get_tracer("test")
    assert not tracer.start_span("call").get_span_context().is_valid
    caller = DEFAULT_PROPAGATION.extracted([("b3", f"{'7' * 32}-{'5' * 16}-1")])
    span = tracer.start_span("call", caller)
    assert not span.is_recording()
    assert dict(DEFAULT_PROPAGATION.headers_of(span))["x-b3-traceid"] == "7" * 32


def test_a_variable_for_traces_wins_over_that_for_all_signals() -> None:
    found = TraceSettings().with_environment(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces/",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all/",
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "1000",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2000",
        }
    )
    assert (found.otlp, found.otlp_timeout) == ("http://traces/", 1.0)


def test_the_docs_name_the_variables_that_are_read_and_each_has_a_test_here() -> None:
    page = (Path(__file__).parents[3] / "docs/flags.md").read_text(encoding="utf-8")
    tested = {variable for variable, *_ in READ}
    documented = {
        name for row in re.findall(r"^\| `OTEL_.*", page, re.MULTILINE) for name in re.findall("OTEL_[A-Z_]+", row)
    }
    # Those for traces alone are told of in a sentence.
    alone = {name for name in tested if name.startswith("OTEL_EXPORTER_OTLP_TRACES_")} - {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
    }
    assert tested - alone == documented
