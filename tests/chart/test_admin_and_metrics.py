"""The admin port of the programs: probes, metrics, the page, and who may reach them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.chart.test_network_policies import STRANGER, allows
from tests.support.chart import CHART, ROOT, Rendered, RenderError, notes_of, render

PORT = 9464
SCRAPED = {"prometheus.io/scrape": "true", "prometheus.io/port": str(PORT), "prometheus.io/path": "/metrics"}
MONITOR = {"metrics.podMonitor.enabled": True}


@pytest.mark.parametrize("component", ["client", "server"])
def test_both_programs_listen_at_the_port_that_is_named_admin(component: str, default: Rendered) -> None:
    container = default.container(component)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports["admin"] == PORT
    environment = default.environment(component)
    assert environment[f"BOOK_{component.upper()}_ADMIN"] == f"0.0.0.0:{PORT}"
    assert environment[f"BOOK_{component.upper()}_ADMIN_ZIPKIN"] == "http://127.0.0.1:9411/zipkin"


def test_a_client_is_asked_for_its_health_there(default: Rendered) -> None:
    client = default.container("client")
    asked = {probe: client[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {
        "startupProbe": {"path": "/readyz", "port": "admin"},
        "readinessProbe": {"path": "/readyz", "port": "admin"},
        "livenessProbe": {"path": "/healthz", "port": "admin"},
    }


def test_without_it_there_is_no_port_no_variable_and_nothing_to_scrape(tmp_path: Path) -> None:
    rendered = render({"admin.enabled": False})
    for component in ("client", "server"):
        container = rendered.container(component)
        assert "admin" not in {port["name"] for port in container.get("ports", [])}
        assert not [name for name in rendered.environment(component) if name.endswith("_ADMIN")]
        assert not {*SCRAPED} & {*rendered.pods()[component]["metadata"].get("annotations", {})}
    assert "exec" in rendered.container("client")["readinessProbe"]
    assert str(PORT) not in notes_of({"admin.enabled": False}, tmp_path)


@pytest.mark.parametrize("actions", [False, True])
def test_actions_are_the_pages_and_the_servers_together(actions: bool, tmp_path: Path) -> None:
    rendered = render({"admin.actions": actions})
    text = "true" if actions else "false"
    assert rendered.environment("client")["BOOK_CLIENT_ADMIN_ACTIONS"] == text
    assert rendered.environment("server")["BOOK_SERVER_FAULTS"] == text
    assert ("buttons are off" in notes_of({"admin.actions": actions}, tmp_path)) is not actions


def test_the_notes_have_the_way_to_the_page(tmp_path: Path) -> None:
    way = f"kubectl -n books port-forward deployment/demo-bookmesh-client {PORT}:{PORT}"
    assert way in notes_of({}, tmp_path / "deployment")
    assert way not in notes_of({"client.mode": "job"}, tmp_path / "job")


def test_what_starts_before_the_client_and_what_tests_have_no_such_port(default: Rendered) -> None:
    for name, container in default.containers():
        has = any(entry["name"].endswith("_ADMIN") for entry in container.get("env", []))
        assert has is (name in {"client/book-client", "server/book-server"}), name


def test_pods_are_found_by_annotations_or_by_a_monitor_and_never_by_both(default: Rendered) -> None:
    monitored = render({**MONITOR, "metrics.podMonitor.labels": {"release": "prometheus"}})
    for component in ("client", "server"):
        assert default.pods()[component]["metadata"]["annotations"].items() >= SCRAPED.items()
        assert not {*SCRAPED} & {*monitored.pods()[component]["metadata"].get("annotations", {})}
    assert default.of_kind("PodMonitor") == []
    (monitor,) = monitored.of_kind("PodMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "admin", "path": "/metrics", "interval": "15s"}


def test_the_monitor_selects_clients_and_servers(default: Rendered) -> None:
    (monitor,) = render(MONITOR).of_kind("PodMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (expression,) = monitor["spec"]["selector"]["matchExpressions"]
    assert expression["operator"] == "In"
    selected = {
        component
        for component, pod in default.pods().items()
        if wanted <= pod["metadata"]["labels"].items()
        and pod["metadata"]["labels"][expression["key"]] in expression["values"]
    }
    assert selected == {"client", "server"}


def test_a_monitor_without_admin_port_is_refused() -> None:
    with pytest.raises(RenderError, match=r"metrics\.podMonitor\.enabled needs admin\.enabled"):
        render({**MONITOR, "admin.enabled": False})


@pytest.mark.parametrize(
    ("value", "reached"), [("metricsFrom", {"client", "server"}), ("pageFrom", {"client"}), ("serverFrom", set())]
)
def test_who_may_scrape_and_who_may_see_the_page(value: str, reached: set[str], default: Rendered) -> None:
    metadata: Any = STRANGER["metadata"]
    peers = [{"podSelector": {"matchLabels": metadata["labels"]}}]
    for rendered, expected in ((default, set[str]()), (render({f"networkPolicy.{value}": peers}), reached)):
        pods = rendered.pods()
        assert {
            component
            for component, pod in pods.items()
            if component != "sweep" and allows(rendered, "Ingress", pod, STRANGER, pod, port=PORT)
        } == expected


def test_the_dashboard_is_there_for_the_sidecar_of_grafana(default: Rendered) -> None:
    assert [manifest for manifest in default.of_kind("ConfigMap") if "dashboard" in manifest["metadata"]["name"]] == []
    values: dict[str, Any] = {
        "metrics.dashboard.enabled": True,
        "metrics.dashboard.annotations": {"grafana_folder": "Services"},
    }
    config = render(values).one("ConfigMap", "metrics")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert config["metadata"]["annotations"] == {"grafana_folder": "Services"}
    (content,) = config["data"].values()
    assert json.loads(content) == json.loads((CHART / "files/dashboard.json").read_text())


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = json.loads((CHART / "files/dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= 25
    documented = {*re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)}
    for query in queries:
        asked = re.findall(r"\b((?:grpc|meshkit)_\w+)\{", query)
        assert asked, query
        assert {re.sub("_(bucket|count|sum)$", "", name) for name in asked} <= documented, query
