"""What every pod has to have, the test's included: security, resources, probes, names."""

from __future__ import annotations

import re

import pytest

from tests.support.chart import COMPONENTS, Rendered, names, render

LONGEST_RELEASE = "a-release-name-that-is-as-long-as-helm-lets-it-be-yes"


def test_every_pod_satisfies_pod_security_restricted(each: Rendered) -> None:
    for component, pod in each.pods().items():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True, component
        assert security["runAsUser"] > 0, component
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, component
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod["spec"]), component
        for volume in pod["spec"].get("volumes", []):
            assert set(volume) - {"name"} <= {"emptyDir", "configMap", "secret"}, component
    for name, container in each.containers():
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False, name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert security["readOnlyRootFilesystem"] is True, name
        assert all("hostPort" not in port for port in container.get("ports", [])), name


def test_no_pod_is_given_a_service_account_token(each: Rendered) -> None:
    accounts = {account["metadata"]["name"]: account for account in each.of_kind("ServiceAccount")}
    for component, pod in each.pods().items():
        assert pod["spec"]["automountServiceAccountToken"] is False, component
        # The last one runs when the release's own are gone.
        if component != "sweep":
            assert accounts[pod["spec"]["serviceAccountName"]]["automountServiceAccountToken"] is False, component


def test_every_container_has_requests_and_a_memory_limit_above_them(each: Rendered) -> None:
    for name, container in each.containers():
        resources = container["resources"]
        assert "cpu" in resources["requests"], name
        assert "cpu" not in resources["limits"], f"{name}: throttling would look like a slow service"
        assert mebibytes(resources["requests"]["memory"]) < mebibytes(resources["limits"]["memory"]), name


def test_all_pods_of_the_default_release_request_at_most_half_a_core_and_768_mebibytes(default: Rendered) -> None:
    millicores = memory = 0
    for workload in default.of_kind("Deployment", "StatefulSet"):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            requests = container["resources"]["requests"]
            millicores += workload["spec"]["replicas"] * int(requests["cpu"].removesuffix("m"))
            memory += workload["spec"]["replicas"] * mebibytes(requests["memory"])
    assert millicores <= 500
    assert memory <= 768


@pytest.mark.parametrize("component", ["server", "client", "etcd", "zipkin"])
@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_every_long_running_pod_has_every_probe_with_a_timeout_that_a_busy_node_survives(
    default: Rendered, component: str, probe: str
) -> None:
    assert default.container(component)[probe]["timeoutSeconds"] >= 5


def test_liveness_forgives_a_minute_and_starting_two(default: Rendered) -> None:
    for component in ("server", "client", "etcd", "zipkin"):
        container = default.container(component)
        liveness, startup = container["livenessProbe"], container["startupProbe"]
        assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 60, component
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 60, component


def test_images_are_pinned_by_tag(each: Rendered) -> None:
    for name, container in each.containers():
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+", container["image"]), name


def test_every_object_says_what_it_belongs_to(each: Rendered) -> None:
    for manifest in each.all:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "demo", manifest["metadata"]["name"]
        assert labels["app.kubernetes.io/component"] in COMPONENTS, manifest["metadata"]["name"]


def test_each_workload_selects_its_own_pods_and_no_others(each: Rendered) -> None:
    pods = each.pods()
    for workload in each.of_kind("Deployment", "StatefulSet"):
        wanted = workload["spec"]["selector"]["matchLabels"].items()
        selected = [component for component, pod in pods.items() if wanted <= pod["metadata"]["labels"].items()]
        assert selected == [workload["metadata"]["labels"]["app.kubernetes.io/component"]]


def test_a_new_chart_version_alone_restarts_no_pod(default: Rendered) -> None:
    for workload in default.of_kind("Deployment", "StatefulSet"):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert labels == workload["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize("mode", ["deployment", "job"])
def test_names_stay_short_enough_for_pods_and_their_labels_under_the_longest_release_name(mode: str) -> None:
    rendered = render(
        {"client.mode": mode, "etcd.replicas": 3, "etcd.persistence.enabled": True}, release=LONGEST_RELEASE
    )
    for manifest in rendered.all:
        # A Job's pods have six characters more than it, a StatefulSet's a label with 11 more.
        room = 63 - (6 if manifest["kind"] == "Job" else 11)
        assert len(manifest["metadata"]["name"]) <= room, manifest["metadata"]["name"]
        assert all(len(value) <= 63 for value in manifest["metadata"]["labels"].values())


@pytest.mark.parametrize(("one", "other"), [("one", "other"), (f"{LONGEST_RELEASE[:-1]}1", f"{LONGEST_RELEASE[:-1]}2")])
def test_two_releases_in_one_namespace_share_no_object_no_pod_and_no_prefix_in_etcd(one: str, other: str) -> None:
    first, second = render(release=one), render(release=other)
    assert not {*names(first.all)} & {*names(second.all)}
    for workload in first.of_kind("Deployment", "StatefulSet"):
        wanted = workload["spec"]["selector"]["matchLabels"].items()
        assert not [name for name, pod in second.pods().items() if wanted <= pod["metadata"]["labels"].items()]
    prefixes = [rendered.environment("server")["BOOK_SERVER_ETCD_PREFIX"] for rendered in (first, second)]
    assert prefixes[0] != prefixes[1]


def mebibytes(quantity: str) -> int:
    assert quantity.endswith("Mi"), quantity
    return int(quantity.removesuffix("Mi"))
