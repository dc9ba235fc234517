"""How the release traces: what programs send and tell, and where Zipkin keeps it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.chart import Rendered, RenderError, notes_of, render

OTLP = {"tracing.exporters": ["zipkin", "otlp"], "tracing.otlp.url": "http://collector:4318/v1/traces"}


def test_spans_can_go_to_a_collector_by_otlp_whose_headers_come_from_a_secret() -> None:
    rendered = render({**OTLP, "tracing.otlp.headersSecret": "collector"})
    source = {"secretKeyRef": {"name": "collector", "key": "headers"}}
    for component, prefix in (("server", "BOOK_SERVER"), ("client", "BOOK_CLIENT")):
        environment = rendered.environment(component)
        assert environment[f"{prefix}_TRACES"] == "zipkin,otlp"
        assert environment[f"{prefix}_OTLP"] == "http://collector:4318/v1/traces"
        assert {"name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": source} in rendered.container(component)["env"]
    # What leaves is not bounded, as with a Zipkin outside.
    assert rendered.one("NetworkPolicy", "server")["spec"]["policyTypes"] == ["Ingress"]


def test_a_password_in_otlps_url_is_refused() -> None:
    with pytest.raises(RenderError, match=r"tracing\.otlp\.headersSecret"):
        render({"tracing.otlp.url": "https://books:secret@collector:4318/v1/traces"})


def test_spans_tell_their_pod_its_namespace_and_its_node(default: Rendered) -> None:
    for component in ("server", "client"):
        env = default.container(component)["env"]
        names = [variable["name"] for variable in env]
        attributes = default.environment(component)["OTEL_RESOURCE_ATTRIBUTES"] or ""
        # Kubernetes puts in what was set before.
        used = re.findall(r"\$\((\w+)\)", attributes)
        assert used == ["POD_NAME", "POD_NAMESPACE", "NODE_NAME", "POD_UID"]
        assert all(names.index(name) < names.index("OTEL_RESOURCE_ATTRIBUTES") for name in used)
        assert all(fact in attributes for fact in ("k8s.pod.name=", "k8s.namespace.name=", "k8s.node.name="))


STORES = [
    (
        "elasticsearch",
        "http://es.infra:9200",
        {"ES_HOSTS": "http://es.infra:9200", "ES_INDEX": "zipkin"},
        "ES_PASSWORD",
    ),
    ("cassandra3", "c1:9042,c2:9042", {"CASSANDRA_CONTACT_POINTS": "c1:9042,c2:9042"}, "CASSANDRA_PASSWORD"),
    ("mysql", "db.infra", {"MYSQL_HOST": "db.infra", "MYSQL_TCP_PORT": "3306", "MYSQL_DB": "zipkin"}, "MYSQL_PASS"),
    ("mysql", "db.infra:3307", {"MYSQL_HOST": "db.infra", "MYSQL_TCP_PORT": "3307"}, "MYSQL_PASS"),
]


@pytest.mark.parametrize(("store", "hosts", "variables", "password"), STORES)
def test_zipkin_keeps_its_traces_in_a_store_of_ones_own(
    store: str, hosts: str, variables: dict[str, str], password: str
) -> None:
    storage = {"zipkin.storage.type": store, "zipkin.storage.hosts": hosts, "zipkin.storage.secret": "store"}
    rendered = render({**storage, "zipkin.image.repository": "openzipkin/zipkin"})
    environment = rendered.environment("zipkin")
    assert environment.items() >= ({"STORAGE_TYPE": store} | variables).items()
    assert "MEM_MAX_SPANS" not in environment
    source = {"secretKeyRef": {"name": "store", "key": "password"}}
    assert {"name": password, "valueFrom": source} in rendered.container("zipkin")["env"]
    assert rendered.one("NetworkPolicy", "zipkin")["spec"]["policyTypes"] == ["Ingress"]


@pytest.mark.parametrize(
    ("store", "hosts", "reason"),
    [
        ("mysql", "db.infra", "not in the slim image"),
        ("mariadb", "", "not in the slim image"),
        ("cassandra3", "c1", "not in the slim image"),
        ("elasticsearch", "", "hosts"),
        ("elasticsearch", "es.infra:9200", "hosts"),
        ("elasticsearch", "http://user:secret@es.infra", "hosts"),
        ("mysql", "mysql://db.infra", "hosts"),
        ("redis", "r", "type"),
    ],
)
def test_a_store_that_cannot_be_is_refused(store: str, hosts: str, reason: str) -> None:
    with pytest.raises(RenderError, match=reason):
        render({"zipkin.storage.type": store, "zipkin.storage.hosts": hosts})


def test_zipkin_can_store_a_share_of_what_it_is_sent(default: Rendered) -> None:
    assert default.environment("zipkin")["COLLECTOR_SAMPLE_RATE"] == "1"
    assert render({"zipkin.sampleRate": 0.1}).environment("zipkin")["COLLECTOR_SAMPLE_RATE"] == "0.1"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "the last 100000 spans in memory, 5 a call: those of the last 1000 s"),
        ({"client.interval": "1.5s", "client.replicas": 3}, "those of the last 10000 s"),
        ({"tracing.sampler": "parentbased_traceidratio", "tracing.samplerArg": 0.1}, "those of the last 10000 s"),
        ({"client.interval": "0s"}, "the last 100000 spans in memory, 5 a call. They are gone with its pod"),
        (
            {"zipkin.storage.type": "elasticsearch", "zipkin.storage.hosts": "http://es:9200"},
            "kept in elasticsearch for as long as that keeps them",
        ),
    ],
)
def test_the_notes_say_how_long_traces_are_kept(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in notes_of(values, tmp_path)
