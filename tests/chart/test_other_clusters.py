"""Clusters that differ from the one that this was made on: names, IP families, OpenShift, GitOps."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.chart import CHART, Rendered, RenderError, helm, names, render

SECRETS = {"tls.serverSecret": "theirs", "tls.clientSecret": "ours", "tls.etcdSecret": "etcds"}
# What a Service may be called: RFC 1035, as before Kubernetes 1.34.
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@pytest.mark.parametrize("release", ["my.mesh", "1mesh", "123", "1.2.3", "a" * 50 + ".b"])
def test_a_release_may_have_any_name_that_helm_takes(release: str) -> None:
    rendered = render({"client.mode": "job", "tls.enabled": True}, release=release)
    for manifest in rendered.all:
        assert SERVICE_NAME.fullmatch(manifest["metadata"]["name"]), manifest["metadata"]["name"]
    # The labels have the release's own name, by which it is found.
    assert {manifest["metadata"]["labels"]["app.kubernetes.io/instance"] for manifest in rendered.all} == {release}


@pytest.mark.parametrize(("one", "other"), [("my.mesh", "my-mesh"), ("1mesh", "m-1mesh"), ("a.b.c", "a.b-c")])
def test_names_that_have_to_be_changed_stay_apart(one: str, other: str) -> None:
    assert not {*names(render(release=one).all)} & {*names(render(release=other).all)}


@pytest.mark.parametrize("name", ["123", "1e3", "0x1f", "no", "null", "1.5", "2001-01-01"])
def test_a_name_that_yaml_would_read_as_something_else_stays_text(name: str) -> None:
    for values in (
        {"tls.enabled": True, "tls.serverSecret": name, "tls.clientSecret": name, "tls.etcdSecret": name},
        {
            "etcd.enabled": False,
            "etcd.externalEndpoints": ["a:1"],
            "etcd.tlsSecret": name,
            "etcd.loginSecret": name,
            "zipkin.enabled": False,
            "zipkin.urlSecret": name,
        },
        {"etcd.persistence": {"enabled": True, "storageClass": name}, "server.priorityClassName": name},
        {"imagePullSecrets": [{"name": name}], "commonLabels": {"a": name}, "server.podAnnotations": {"a": name}},
    ):
        for path, value in _values(render(values).all):
            if path.rsplit(".", 1)[-1] in {"secretName", "name", "key", "storageClassName", "priorityClassName", "a"}:
                assert isinstance(value, str), path


def _values(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every plain value of nested lists and dictionaries, after its path."""
    if isinstance(tree, dict):
        return [found for key, value in tree.items() for found in _values(value, f"{path}.{key}")]
    if isinstance(tree, list):
        return [found for item in tree for found in _values(item, path)]
    return [(path, tree)]


def test_large_numbers_are_written_out() -> None:
    million = 1_000_000
    rendered = render(
        {
            "server.replicas": million,
            "server.rate": million,
            "server.burst": million,
            "server.drainSeconds": million,
            "server.podDisruptionBudget.maxUnavailable": million,
            "server.resources.requests": {"cpu": million, "memory": million * 100},
            "server.tolerations": [{"operator": "Exists", "tolerationSeconds": million}],
            "client.breaker.maxConcurrent": million,
            "client.terminationGracePeriodSeconds": million,
            "etcd.tolerations": [{"operator": "Exists", "tolerationSeconds": million}],
            "zipkin.maxSpans": million * 10,
            "test.calls": million,
        }
    )
    assert [value for value in _values(rendered.all) if re.search(r"\de\+?\d", str(value[1]))] == []
    assert rendered.environment("server")["BOOK_SERVER_DRAIN"] == "1000000s"
    assert rendered.environment("server")["BOOK_SERVER_RATE"] == "1000000"
    assert rendered.one("Deployment", "server")["spec"]["replicas"] == million


def test_fractions_stay_fractions() -> None:
    assert render({"server.rate": 0.5}).environment("server")["BOOK_SERVER_RATE"] == "0.5"
    assert (
        render({"client.breaker.errorPercent": 2.5}).environment("client")["BOOK_CLIENT_BREAKER_ERROR_PERCENT"] == "2.5"
    )


@pytest.mark.parametrize(
    "endpoint", ["https://etcd.infra:2379", "etcd.infra:2379/", "fd00::5:2379", "u@etcd:2379", "a b:1"]
)
def test_an_endpoint_that_is_no_host_and_port_is_refused_with_a_sentence(endpoint: str) -> None:
    with pytest.raises(RenderError) as error:
        render({"etcd.enabled": False, "etcd.externalEndpoints": ["etcd.infra:2379", endpoint]})
    assert "host:port" in str(error.value) or "externalEndpoints" in str(error.value)


def test_an_endpoint_may_be_an_ipv6_address() -> None:
    values = {"etcd.enabled": False, "etcd.externalEndpoints": ["[fd00::5]:2379"]}
    assert render(values).environment("server")["BOOK_SERVER_ETCD"] == "[fd00::5]:2379"


def test_scaling_by_cpu_without_a_cpu_request_is_refused() -> None:
    for cpu in (None, 0, "0"):
        with pytest.raises(RenderError, match=r"server\.autoscaling needs server\.resources\.requests\.cpu"):
            render({"server.autoscaling.enabled": True, "server.resources.requests": {"cpu": cpu}})
    # Kubernetes takes a limit for the request where there is none.
    render({"server.autoscaling.enabled": True, "server.resources": {"requests": {"cpu": None}, "limits": {"cpu": 1}}})


def test_nothing_is_bound_to_one_ip_family(default: Rendered) -> None:
    """All listen on an unspecified address, which gRPC, Go and Java take for all addresses of all families.

    tests/integration/test_etcd_of_the_chart.py and test_ip_families.py see it.
    """
    for name, container in default.containers():
        words = [str(word) for word in (*container.get("command", []), *container.get("args", []))]
        words += [str(entry.get("value")) for entry in container.get("env", [])]
        for address in re.findall(r"\d+\.\d+\.\d+\.\d+", " ".join(words)):
            assert address in {"0.0.0.0", "127.0.0.1"}, name
        assert "$(POD_IP)" not in " ".join(words), f"{name}: an IPv6 address before a port needs brackets"
    for service in default.of_kind("Service"):
        assert not {"ipFamilies", "ipFamilyPolicy"} & {*service["spec"]}, "the cluster knows best"


def test_services_take_the_ip_families_that_are_asked_for() -> None:
    rendered = render({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]})
    services = rendered.of_kind("Service")
    assert len(services) == 3
    for service in services:
        assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
        assert service["spec"]["ipFamilies"] == ["IPv6", "IPv4"]


def test_user_and_group_ids_can_be_left_to_the_cluster() -> None:
    for component, pod in render({"fixedUserIds": False, "tls.enabled": True}).pods().items():
        security = pod["spec"]["securityContext"]
        assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, component


def test_dns_may_answer_on_another_port() -> None:
    ports = render({"networkPolicy.dnsPorts": [5353]})
    for component in ("server", "client", "test", "etcd"):
        rules = ports.one("NetworkPolicy", component)["spec"]["egress"]
        (dns,) = (rule["ports"] for rule in rules if "to" not in rule)
        assert dns == [{"port": 5353, "protocol": "UDP"}, {"port": 5353, "protocol": "TCP"}], component


@pytest.mark.parametrize(
    "values", [{}, {"tls.enabled": True, **SECRETS}, {"tls.enabled": True, "tls.issuer": {"name": "ca"}}]
)
def test_two_renderings_are_the_same_where_the_certificates_are_given(values: dict[str, Any]) -> None:
    first = render(values)
    helm.cache_clear()
    assert render(values).all == first.all


def test_what_argo_cd_needs_to_know_is_said_where_tls_is_switched_on() -> None:
    text = (CHART / "values.yaml").read_text()
    section = text[text.index("\ntls:") : text.index("\nnetworkPolicy:")]
    for word in ("Argo CD", "helm template", "SelfSigned", "ACME", "ca.crt"):
        assert word in section
