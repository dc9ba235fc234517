"""values.schema.json: what a user may write, and that mistakes are named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chart import CHART, RenderError, helm, render


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("servre.replicas", 3),
        ("server.replica", 3),
        ("server.image.tga", "1"),
        ("client.breaker.timeOut", "1s"),
        ("etcd.persistance.enabled", True),  # codespell:ignore persistance
        ("zipkin.service.port", 1),
        ("networkPolicy.from", []),
        ("etcd.authSecret", "etcd-user"),
        ("tls.etcdsecret", "mine"),
        ("server.resources.request", {}),
        ("client.extraEnv", [{"name": "TZ", "valeu": "UTC"}]),  # codespell:ignore valeu
    ],
)
def test_a_typo_is_refused_and_named(path: str, value: Any) -> None:
    with pytest.raises(RenderError) as error:
        render({path: value})
    assert any(part in str(error.value) for part in path.split(".")[-2:]), error.value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("server.replicas", -1),
        ("server.replicas", "three"),
        ("server.replicas", 1.5),
        ("server.rate", -1),
        ("server.burst", 0),
        ("server.maxListLatency", "fast"),
        ("server.maxListLatency", 20),
        ("server.leaseTtl", 0),
        ("server.drainSeconds", -1),
        ("server.image.pullPolicy", "Sometimes"),
        ("server.autoscaling.enabled", "yes"),
        ("server.podDisruptionBudget.maxUnavailable", 0),
        ("server.podDisruptionBudget.maxUnavailable", "0%"),
        ("server.extraEnv", [{"name": "THREADS", "value": 1}]),
        ("client.mode", "daemon"),
        ("client.mode", False),
        ("client.calls", 0),
        ("client.concurrency", 0),
        ("client.balancer", "roundrobin"),
        ("client.timeout", "0s"),
        ("client.timeout", "10sec"),
        ("client.breaker.timeout", "1.2.3s"),
        ("client.terminationGracePeriodSeconds", 0),
        ("client.breaker.errorPercent", 101),
        ("etcd.replicas", 2),
        ("etcd.prefix", "services/book"),
        ("etcd.prefix", "/"),
        ("etcd.externalEndpoints", ["etcd.infra"]),
        ("etcd.tlsSecret", {"name": "etcd-client"}),
        ("etcd.clientCertificate", "no"),
        ("etcd.loginSecret", True),
        ("tls.etcdSecret", 1),
        ("tls.issuer", {"kind": "ClusterIssuer"}),
        ("zipkin.externalUrl", "zipkin.infra:9411"),
        ("zipkin.maxSpans", 0),
        ("zipkin.sampleRate", 2),
        ("tracing.propagators", ["xray"]),
        ("tracing.propagators", ["none", "b3"]),
        ("tracing.exporters", []),
        ("tracing.samplerArg", "0.1"),
        ("tracing.otlp.url", "collector:4318"),
        ("zipkin.service.nodePort", 70000),
        ("logFormat", "xml"),
        ("nameOverride", "Book Mesh"),
        ("imagePullSecrets", ["registry"]),
        ("test.calls", 0),
        ("server.replicas", 3_000_000_000),
        ("server.podLabels", {"a": "b c"}),
        ("server.podLabels", {"a b": "c"}),
        ("server.resources.requests", {"memory": "72 MB"}),
        ("server.image.tag", "1.0 "),
        ("client.interval", None),
        ("server.replicas", None),
        ("client", None),
        ("etcd.image.tag", ""),
        ("etcd.persistence.size", "1Gi}"),
        ("etcd.prefix", "/services/$(POD_NAME)/"),
        ("zipkin.image.tag", ""),
        ("tls.etcdFrom", ["a,b"]),
        ("tls.clientName", "spiffe://books"),
        ("networkPolicy.dnsPorts", []),
        ("ipFamilyPolicy", "DualStack"),
        ("ipFamilies", ["IPv5"]),
    ],
)
def test_a_wrong_value_is_refused_and_named(path: str, value: Any) -> None:
    with pytest.raises(RenderError) as error:
        render({path: value})
    message = str(error.value)
    assert path.rsplit(".", 1)[-1] in message, message


def test_every_default_is_described_by_the_schema() -> None:
    def missing(values: dict[str, Any], schema: dict[str, Any], path: str) -> list[str]:
        found = []
        for key, value in values.items():
            described = schema.get("properties", {}).get(key)
            if described is None:
                found.append(path + key)
            elif isinstance(value, dict) and "properties" in described:
                found += missing(value, described, f"{path}{key}.")
        return found

    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert missing(values, schema, "") == []


def test_it_is_usable_as_a_subchart_with_global_values_and_a_condition(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts/bookmesh")
    (parent / "templates").mkdir()
    (parent / "values.yaml").write_text("global: {region: eu}\nbookmesh: {enabled: true, server: {replicas: 5}}\n")
    (parent / "Chart.yaml").write_text(
        "apiVersion: v2\nname: parent\nversion: 1.0.0\n"
        "dependencies: [{name: bookmesh, version: '*', condition: bookmesh.enabled}]\n"
    )
    assert render(chart=parent).one("Deployment", "server")["spec"]["replicas"] == 5
    assert render({"bookmesh.enabled": False}, chart=parent).all == []
    with pytest.raises(RenderError, match="replica"):
        render({"bookmesh.server.replica": 1}, chart=parent)
    assert "0 chart(s) failed" in helm("lint", "--strict", str(parent))
