"""What a user may give to the pods of each component, the test's and the one at uninstalling included."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.chart import Rendered, render

# The values that pods take, and where they end up in a pod's spec.
IN_SPEC: dict[str, Any] = {
    "priorityClassName": "books",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "books", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
}
SECTIONS = ("server", "client", "etcd", "zipkin", "test")
# Which pods a section is about; nothing else may change with it.
PODS = {"test": {"test", "sweep"}, "client": {"client", "test", "sweep"}}
SIDECAR_OFF = {"sidecar.istio.io/inject": "false"}


def pods_of(section: str) -> set[str]:
    return PODS.get(section, {section})


@pytest.mark.parametrize("mode", ["deployment", "job"])
@pytest.mark.parametrize("section", SECTIONS)
def test_placement_priority_and_dns_reach_the_pods_of_their_component_alone(
    section: str, mode: str, default: Rendered
) -> None:
    rendered = render({"client.mode": mode, **{f"{section}.{name}": value for name, value in IN_SPEC.items()}})
    for component, pod in rendered.pods().items():
        for name, value in IN_SPEC.items():
            expected = value if component in pods_of(section) else default.pods()[component]["spec"].get(name)
            assert pod["spec"].get(name) == expected, (component, name)


@pytest.mark.parametrize("mode", ["deployment", "job"])
@pytest.mark.parametrize("section", SECTIONS)
def test_labels_and_annotations_reach_the_pods_of_their_component_alone(section: str, mode: str) -> None:
    values = {f"{section}.podLabels": SIDECAR_OFF, f"{section}.podAnnotations": {"example.org/note": "books"}}
    for component, pod in render({"client.mode": mode, **values}).pods().items():
        metadata = pod["metadata"]
        has = component in pods_of(section)
        assert (metadata["labels"].get("sidecar.istio.io/inject") == "false") is has, component
        assert (metadata.get("annotations", {}).get("example.org/note") == "books") is has, component


def test_what_is_set_for_the_test_goes_before_what_the_client_has() -> None:
    values = {"client.podLabels": {"sidecar.istio.io/inject": "true"}, "test.podLabels": SIDECAR_OFF}
    pods = render(values).pods()
    assert pods["client"]["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    assert pods["test"]["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def test_labels_of_ones_own_are_on_all_objects_and_pods_and_select_nothing() -> None:
    own = {"team": "books", "app.kubernetes.io/component": "mine"}
    rendered = render({"commonLabels": own, "client.podLabels": own, "tls.enabled": True})
    for manifest in rendered.all:
        labels = manifest["metadata"]["labels"]
        assert labels["team"] == "books", manifest["metadata"]["name"]
        assert labels["app.kubernetes.io/component"] in SECTIONS, "the chart's own stay"
    for component, pod in rendered.pods().items():
        assert pod["metadata"]["labels"]["team"] == "books", component
        assert pod["metadata"]["labels"]["app.kubernetes.io/component"] != "mine", component
    for workload in rendered.of_kind("Deployment", "StatefulSet"):
        assert "team" not in workload["spec"]["selector"]["matchLabels"]


def test_pull_secrets_are_for_all_pods() -> None:
    for component, pod in render({"imagePullSecrets": [{"name": "registry"}]}).pods().items():
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}], component


@pytest.mark.parametrize("section", SECTIONS)
def test_a_spread_of_ones_own_takes_the_place_of_the_charts_and_means_the_components_pods(section: str) -> None:
    spread = {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    rendered = render({f"{section}.topologySpreadConstraints": [spread]})
    pod = rendered.pods()[section]
    (constraint,) = pod["spec"]["topologySpreadConstraints"]
    selected = constraint.pop("labelSelector")["matchLabels"]
    assert constraint == spread
    assert selected.items() <= pod["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("server", "BOOK_SERVER_GRACE"),
        ("client", "BOOK_CLIENT_TIMEOUT"),
        ("client", "BOOK_CLIENT_CALLS"),
        ("test", "BOOK_CLIENT_ZIPKIN"),
        ("etcd", "ETCDCTL_ENDPOINTS"),
        ("zipkin", "JAVA_OPTS"),
    ],
)
def test_a_variable_of_ones_own_replaces_the_charts_in_its_place(section: str, name: str) -> None:
    before = [entry["name"] for entry in render({"tls.enabled": True}).container(section)["env"]]
    own = [{"name": name, "value": "1m"}, {"name": "TZ", "value": "UTC"}]
    rendered = render({"tls.enabled": True, f"{section}.extraEnv": own})
    entries = rendered.container(section)["env"]
    # A variable can refer to those before it.
    assert [entry["name"] for entry in entries] == [*before, "TZ"]
    assert next(entry for entry in entries if entry["name"] == name) == {"name": name, "value": "1m"}
    for container, described in rendered.containers():
        names = [entry["name"] for entry in described.get("env", [])]
        assert len(names) == len({*names}), f"{container} has a variable twice"


def test_of_two_variables_of_one_name_the_last_counts() -> None:
    own = [{"name": "TZ", "value": "UTC"}, {"name": "TZ", "value": "CET"}]
    entries = render({"server.extraEnv": own}).container("server")["env"]
    assert [entry for entry in entries if entry["name"] == "TZ"] == [own[1]]


@pytest.mark.parametrize("mode", ["deployment", "job"])
@pytest.mark.parametrize("section", SECTIONS)
def test_volumes_of_ones_own_are_seen_by_all_containers(section: str, mode: str) -> None:
    volume = {"name": "authorities", "configMap": {"name": "authorities"}}
    mount = {"name": "authorities", "mountPath": "/authorities", "readOnly": True}
    values = {f"{section}.extraVolumes": [volume], f"{section}.extraVolumeMounts": [mount]}
    rendered = render({"client.mode": mode, "tls.enabled": True, **values})
    for component in pods_of(section) - {"sweep"}:
        spec = rendered.pods()[component]["spec"]
        assert volume in spec["volumes"], component
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            assert mount in container["volumeMounts"], component


def test_a_volume_of_the_charts_name_replaces_it() -> None:
    own = {"name": "data", "emptyDir": {"medium": "Memory"}}
    mount = {"name": "data", "mountPath": "/var/lib/etcd", "subPath": "etcd"}
    rendered = render({"etcd.extraVolumes": [own], "etcd.extraVolumeMounts": [mount]})
    assert rendered.pods()["etcd"]["spec"]["volumes"] == [own]
    assert rendered.container("etcd")["volumeMounts"] == [mount]
