"""Network policies, evaluated as a cluster's network would: who may reach whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.chart import CHART, Rendered, render

PORTS = {"server": 50051, "etcd": 2379, "zipkin": 9411}
PATHS = {
    ("client", "server"),
    ("test", "server"),
    ("server", "etcd"),
    ("client", "etcd"),
    ("test", "etcd"),
    ("etcd", "etcd"),
    ("server", "zipkin"),
    ("client", "zipkin"),
    ("test", "zipkin"),
}
STRANGER = {"metadata": {"labels": {"app": "stranger"}}, "spec": {"containers": [{}]}}


def selects(selector: dict[str, Any], pod: dict[str, Any]) -> bool:
    assert set(selector) == {"matchLabels"}, selector
    return bool(selector["matchLabels"].items() <= pod["metadata"]["labels"].items())


def number(port: int | str, pod: dict[str, Any]) -> int | None:
    """Of a port in a policy: names are those of the pod that is called."""
    named = {
        entry["name"]: entry["containerPort"]
        for container in pod["spec"]["containers"]
        for entry in container.get("ports", [])
    }
    return port if isinstance(port, int) else named.get(port)


def allows(
    rendered: Rendered, direction: str, at: dict[str, Any], other: dict[str, Any], called: dict[str, Any], *, port: int
) -> bool:
    """Whether the policies at one end let the other end's pod pass."""
    field = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}[direction]
    policies = [
        policy["spec"]
        for policy in rendered.of_kind("NetworkPolicy")
        if direction in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], at)
    ]
    return not policies or any(
        (
            field[1] not in rule
            or any("podSelector" in peer and selects(peer["podSelector"], other) for peer in rule[field[1]])
        )
        and ("ports" not in rule or port in [number(entry["port"], called) for entry in rule["ports"]])
        for spec in policies
        for rule in spec.get(field[0], [])
    )


def reaches(rendered: Rendered, caller: dict[str, Any], called: dict[str, Any], port: int) -> bool:
    return allows(rendered, "Egress", caller, called, called, port=port) and allows(
        rendered, "Ingress", called, caller, called, port=port
    )


def test_just_the_real_paths_are_open(default: Rendered) -> None:
    pods = {name: pod for name, pod in default.pods().items() if name != "sweep"}
    reached = {
        (caller, called)
        for caller in pods
        for called, port in PORTS.items()
        if reaches(default, pods[caller], pods[called], port)
    }
    assert reached == PATHS


def test_other_ports_of_the_same_pods_are_closed(default: Rendered) -> None:
    pods = default.pods()
    for caller, called in PATHS - {("etcd", "etcd")}:
        for port in (22, 2380, 8080):
            assert not reaches(default, pods[caller], pods[called], port), (caller, called, port)
    assert reaches(default, pods["etcd"], pods["etcd"], 2380)


@pytest.mark.parametrize("called", list(PORTS))
def test_a_stranger_reaches_nothing(default: Rendered, called: str) -> None:
    assert not reaches(default, STRANGER, default.pods()[called], PORTS[called])


@pytest.mark.parametrize("called", list(PORTS))
def test_another_release_reaches_nothing_until_it_is_let_in(called: str) -> None:
    other = render(release="other").pods()["client"]
    peers = [{"podSelector": {"matchLabels": {"app.kubernetes.io/instance": "other"}}}]
    for values, open_to_it in (({}, False), ({f"networkPolicy.{called}From": peers}, True)):
        rendered = render(values)
        assert (
            allows(rendered, "Ingress", rendered.pods()[called], other, rendered.pods()[called], port=PORTS[called])
            is open_to_it
        )
        own = rendered.pods()["test"]
        assert reaches(rendered, own, rendered.pods()[called], PORTS[called]), "its own pods have to go on"


@pytest.mark.parametrize("component", ["server", "client", "test", "etcd"])
def test_dns_can_be_asked_wherever_names_are_used(default: Rendered, component: str) -> None:
    dns = {"metadata": {"labels": {"k8s-app": "kube-dns"}}, "spec": {"containers": [{}]}}
    assert allows(default, "Egress", default.pods()[component], dns, dns, port=53)


def test_zipkin_calls_nobody(default: Rendered) -> None:
    zipkin = default.pods()["zipkin"]
    assert not allows(default, "Egress", zipkin, STRANGER, STRANGER, port=443)


def test_zipkins_page_is_open_to_all_where_its_service_is_there_for_that() -> None:
    rendered = render({"zipkin.service.type": "NodePort"})
    assert reaches(rendered, STRANGER, rendered.pods()["zipkin"], 9411)


def test_what_leaves_is_not_bounded_where_etcd_or_zipkin_are_outside() -> None:
    rendered = render(CHART / "ci/external-values.yaml")
    pods = rendered.pods()
    for component in ("server", "client", "test"):
        assert allows(rendered, "Egress", pods[component], STRANGER, STRANGER, port=2379)
    assert not reaches(rendered, STRANGER, pods["server"], 50051)
    assert reaches(rendered, pods["client"], pods["server"], 50051)


def test_they_can_be_switched_off() -> None:
    assert render({"networkPolicy.enabled": False}).of_kind("NetworkPolicy") == []


@pytest.mark.parametrize("component", ["server", "client", "etcd", "zipkin", "test"])
def test_each_policy_selects_pods_that_there_are(default: Rendered, component: str) -> None:
    policy = default.one("NetworkPolicy", component)
    selected = {name for name, pod in default.pods().items() if selects(policy["spec"]["podSelector"], pod)}
    assert selected - {"sweep"} == {component}
