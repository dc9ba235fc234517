"""Each component and each of its switches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest
from book_client.__main__ import BALANCERS
from book_client.__main__ import command as client_command
from book_server.__main__ import command as server_command

from tests.support.chart import CHART, EXTERNAL_ETCD, Rendered, RenderError, names, notes_of, render

PROGRAMS = pytest.mark.parametrize(
    ("component", "command", "prefix"),
    [("server", server_command, "BOOK_SERVER"), ("client", client_command, "BOOK_CLIENT")],
)


@PROGRAMS
def test_each_variable_is_a_flag_of_its_program_and_each_flag_has_its_variable(
    component: str, command: click.Command, prefix: str
) -> None:
    flags = {f"{prefix}_{parameter.name.upper()}" for parameter in command.params if parameter.name}
    environment = render({**EXTERNAL_ETCD, "tls.enabled": True}).environment(component)
    # A pod knows its address's host alone; --advertise is there for users, --admin-extra for the demo.
    unused = {"BOOK_SERVER_ADVERTISE", "BOOK_CLIENT_ADMIN_EXTRA"}
    assert {name for name in environment if name.startswith(f"{prefix}_")} == flags - unused


@PROGRAMS
def test_the_programs_accept_what_the_variables_hold(
    each: Rendered, component: str, command: click.Command, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if component not in each.pods():
        return  # switched off here
    for name, value in each.environment(component).items():
        # Of files, and of what Secrets hold, there is only the name here; test_tls.py looks into those it can.
        if value is not None and not value.startswith(("/tls/", "/etcd-")):
            monkeypatch.setenv(name, value)
    context = command.make_context("program", [], auto_envvar_prefix=prefix)
    assert context.params["etcd"]


def test_servers_take_faults_only_where_actions_are_switched_on(default: Rendered) -> None:
    assert default.environment("server")["BOOK_SERVER_FAULTS"] == "false"
    assert render({"admin.actions": True}).environment("server")["BOOK_SERVER_FAULTS"] == "true"


def test_a_server_advertises_its_pods_own_address(default: Rendered) -> None:
    host = {"name": "BOOK_SERVER_ADVERTISE_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    assert host in default.container("server")["env"]


def test_a_server_is_ready_by_grpc_health_and_not_restarted_while_it_waits_for_etcd(default: Rendered) -> None:
    server = default.container("server")
    assert server["readinessProbe"]["grpc"] == {"port": 50051}
    assert "tcpSocket" in server["livenessProbe"]
    assert "tcpSocket" in server["startupProbe"]


def test_a_server_has_time_to_leave_etcd_drain_end_its_calls_and_flush_its_spans() -> None:
    rendered = render({"server.drainSeconds": 7, "server.graceSeconds": 40})
    environment = rendered.environment("server")
    assert (environment["BOOK_SERVER_DRAIN"], environment["BOOK_SERVER_GRACE"]) == ("7s", "40s")
    revoking, flushing = 2, 4
    assert rendered.pods()["server"]["spec"]["terminationGracePeriodSeconds"] > revoking + 7 + 40 + flushing


def test_a_rollout_never_has_fewer_servers_than_asked_for(default: Rendered) -> None:
    assert default.one("Deployment", "server")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_servers_are_spread_over_the_nodes_but_never_unschedulable_for_it(default: Rendered) -> None:
    (spread,) = default.pods()["server"]["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert spread["labelSelector"]["matchLabels"].items() <= default.pods()["server"]["metadata"]["labels"].items()


def test_autoscaling_leaves_the_number_of_replicas_to_the_autoscaler(default: Rendered) -> None:
    assert default.one("Deployment", "server")["spec"]["replicas"] == 3
    assert default.of_kind("HorizontalPodAutoscaler") == []
    scaled = render({"server.autoscaling.enabled": True, "server.autoscaling.maxReplicas": 7})
    assert "replicas" not in scaled.one("Deployment", "server")["spec"]
    spec = scaled.one("HorizontalPodAutoscaler", "server")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 7)
    assert spec["scaleTargetRef"]["name"] == scaled.one("Deployment", "server")["metadata"]["name"]
    with pytest.raises(RenderError, match="minReplicas is 20, above maxReplicas of 10"):
        render({"server.autoscaling": {"enabled": True, "minReplicas": 20}})


def test_disruptions_take_one_server_at_a_time_unless_switched_off(default: Rendered) -> None:
    budget = default.one("PodDisruptionBudget", "server")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == default.one("Deployment", "server")["spec"]["selector"]
    assert render({"server.podDisruptionBudget.enabled": False}).of_kind("PodDisruptionBudget") == []


@pytest.mark.parametrize("mode", ["deployment", "job"])
def test_a_clients_calls_in_flight_may_end_within_the_time_that_the_values_give(mode: str) -> None:
    rendered = render({"client.mode": mode, "client.terminationGracePeriodSeconds": 95, "client.timeout": "90s"})
    assert rendered.pods()["client"]["spec"]["terminationGracePeriodSeconds"] == 95


def test_what_makes_a_few_calls_and_ends_does_not_pause_between_them(default: Rendered) -> None:
    (wait,) = default.pods()["client"]["spec"]["initContainers"]
    assert "--interval=0s" in wait["args"]
    assert '"--interval=0s"' in default.one("ConfigMap", "test")["data"]["check.py"]


def test_a_release_whose_name_is_a_number_has_labels_that_are_text() -> None:
    labels = render(release="123").one("Deployment", "server")["metadata"]["labels"]
    assert labels["app.kubernetes.io/instance"] == "123"


def test_the_client_calls_for_ever_as_a_deployment(default: Rendered) -> None:
    assert default.environment("client")["BOOK_CLIENT_CALLS"] == "0"
    assert names(default.of_kind("Job")) == ["Job/demo-bookmesh-sweep"]


def test_the_client_makes_its_calls_once_as_a_job() -> None:
    rendered = render({"client.mode": "job", "client.calls": 12})
    job = rendered.one("Job", "client")
    assert job["spec"]["backoffLimit"] == 0
    assert rendered.pods()["client"]["spec"]["restartPolicy"] == "Never"
    assert rendered.environment("client")["BOOK_CLIENT_CALLS"] == "12"
    with pytest.raises(LookupError):
        rendered.one("Deployment", "client")


@pytest.mark.parametrize("balancer", BALANCERS)
def test_each_balancer_of_the_client_can_be_chosen(balancer: str) -> None:
    assert render({"client.balancer": balancer}).environment("client")["BOOK_CLIENT_BALANCER"] == balancer


def test_a_job_is_called_by_its_content_as_it_cannot_be_changed() -> None:
    jobs = [render({"client.mode": "job", **more}).one("Job", "client") for more in ({}, {}, {"client.calls": 31})]
    first, same, other = jobs
    assert first == same
    assert first["metadata"]["name"] != other["metadata"]["name"]


def test_the_client_can_be_left_out() -> None:
    rendered = render({"client.mode": "off"})
    assert "client" not in rendered.pods()
    assert "test" in rendered.pods()


@pytest.mark.parametrize("mode", ["deployment", "job"])
def test_the_client_waits_for_a_first_successful_call(mode: str) -> None:
    pod = render({"client.mode": mode}).pods()["client"]
    (wait,) = pod["spec"]["initContainers"]
    assert "--calls=1" in wait["args"]
    assert pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "book-client"


def test_a_client_without_admin_port_is_ready_once_connected_to_the_port_that_servers_listen_on() -> None:
    bare = render({"admin.enabled": False})
    command = bare.container("client")["readinessProbe"]["exec"]["command"]
    (port,) = bare.container("server")["ports"]
    pattern = re.compile(command[2])
    connected = f"   1: 0A00F40A:D2E6 0B00F40A:{port['containerPort']:04X} 01 00000000:00000000 02:00000519 00000000\n"
    assert pattern.search(connected)
    assert not pattern.search(connected.replace(" 01 ", " 02 "))
    assert not pattern.search(connected.replace(f":{port['containerPort']:04X} ", ":2587 "))


def test_one_etcd_member_keeps_its_data_in_the_pod(default: Rendered) -> None:
    etcd = default.one("StatefulSet", "etcd")
    assert "volumeClaimTemplates" not in etcd["spec"]
    assert "emptyDir" in etcd["spec"]["template"]["spec"]["volumes"][0]
    assert default.environment("server")["BOOK_SERVER_ETCD"] == "demo-bookmesh-etcd:2379"


def test_three_etcd_members_know_each_other_keep_their_data_and_are_all_named_to_the_programs() -> None:
    rendered = render({"etcd.replicas": 3, "etcd.persistence.enabled": True, "etcd.persistence.size": "3Gi"})
    etcd = rendered.one("StatefulSet", "etcd")
    headless = rendered.one("Service", "etcd", name_ends="-peers")
    assert etcd["spec"]["replicas"] == 3
    assert etcd["spec"]["podManagementPolicy"] == "Parallel"
    assert etcd["spec"]["serviceName"] == headless["metadata"]["name"]
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["publishNotReadyAddresses"] is True
    hosts = [f"demo-bookmesh-etcd-{number}.demo-bookmesh-etcd-peers" for number in range(3)]
    command = rendered.container("etcd")["command"]
    members = ",".join(f"demo-bookmesh-etcd-{number}=http://{host}:2380" for number, host in enumerate(hosts))
    assert f"--initial-cluster={members}" in command
    for component, variable in (
        ("server", "BOOK_SERVER_ETCD"),
        ("client", "BOOK_CLIENT_ETCD"),
        ("test", "BOOK_CLIENT_ETCD"),
    ):
        assert rendered.environment(component)[variable] == ",".join(f"{host}:2379" for host in hosts)
    (claim,) = etcd["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert claim["metadata"]["name"] == rendered.container("etcd")["volumeMounts"][0]["name"]
    assert etcd["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    assert rendered.one("PodDisruptionBudget", "etcd")["spec"]["maxUnavailable"] == 1


def test_three_etcd_members_without_volumes_are_refused() -> None:
    with pytest.raises(RenderError, match=r"etcd\.persistence\.enabled"):
        render({"etcd.replicas": 3})


def test_an_etcd_and_a_zipkin_of_ones_own_take_the_place_of_the_bundled_ones() -> None:
    rendered = render(CHART / "ci/external-values.yaml")
    assert set(rendered.pods()) == {"server", "client", "test", "sweep"}
    assert rendered.of_kind("Service", "StatefulSet") == []
    for component, prefix in (("server", "BOOK_SERVER"), ("client", "BOOK_CLIENT"), ("test", "BOOK_CLIENT")):
        environment = rendered.environment(component)
        assert environment[f"{prefix}_ETCD"] == "etcd.infra:2379"
        assert environment[f"{prefix}_ETCD_PREFIX"] == "/services/book/"
        assert environment[f"{prefix}_ZIPKIN"] == "http://zipkin.infra:9411/api/v2/spans"


def test_no_etcd_at_all_is_refused() -> None:
    with pytest.raises(RenderError, match="externalEndpoints"):
        render({"etcd.enabled": False})


def test_the_url_of_a_zipkin_of_ones_own_can_come_from_a_secret() -> None:
    rendered = render({"zipkin.enabled": False, "zipkin.urlSecret": "collector"})
    source = {"secretKeyRef": {"name": "collector", "key": "url"}}
    for component, name in (
        ("server", "BOOK_SERVER_ZIPKIN"),
        ("client", "BOOK_CLIENT_ZIPKIN"),
        ("test", "BOOK_CLIENT_ZIPKIN"),
    ):
        assert {"name": name, "valueFrom": source} in rendered.container(component)["env"]
    # What leaves is not bounded, as with any Zipkin outside.
    assert rendered.one("NetworkPolicy", "server")["spec"]["policyTypes"] == ["Ingress"]


@pytest.mark.parametrize("login", ["books:secret@", "token@", "books:a%2Fb@"])
def test_a_password_in_a_url_that_everybody_may_read_is_refused(login: str) -> None:
    with pytest.raises(RenderError, match=r"zipkin\.urlSecret"):
        render({"zipkin.enabled": False, "zipkin.externalUrl": f"https://{login}zipkin.infra/api/v2/spans"})


@pytest.mark.parametrize(
    ("size", "quota"),
    [("640Mi", 64), ("1Gi", 256), ("1073741824", 256), ("2Gi", 768), ("100Gi", 2048), ("0.75Gi", 128)],
)
def test_etcds_quota_follows_its_volume_and_leaves_room_for_its_log_and_a_defragmentation(
    size: str, quota: int
) -> None:
    command = render({"etcd.persistence": {"enabled": True, "size": size}}).container("etcd")["command"]
    assert f"--quota-backend-bytes={quota * 1024 * 1024}" in command


def test_a_volume_that_etcds_log_would_fill_is_refused() -> None:
    with pytest.raises(RenderError, match=r"etcd\.persistence\.size is 600Mi: at least 640Mi are needed"):
        render({"etcd.persistence": {"enabled": True, "size": "600Mi"}})


@pytest.mark.parametrize("size", ["1Gi", "3Gi", "100Gi"])
def test_etcds_memory_limit_follows_its_quota(size: str) -> None:
    etcd = render({"etcd.persistence": {"enabled": True, "size": size}}).container("etcd")
    (quota,) = (int(flag.partition("=")[2]) for flag in etcd["command"] if flag.startswith("--quota"))
    assert int(etcd["resources"]["limits"]["memory"].removesuffix("Mi")) == quota // 2**20 + 256
    own = render({"etcd.resources": {"limits": {"memory": "1Gi"}}}).container("etcd")["resources"]
    assert own == {"limits": {"memory": "1Gi"}, "requests": {"cpu": "50m", "memory": "48Mi"}}


def test_etcds_quota_follows_the_size_of_a_pod_without_a_volume(default: Rendered) -> None:
    (volume,) = default.pods()["etcd"]["spec"]["volumes"]
    assert volume["emptyDir"] == {"sizeLimit": "1Gi"}
    assert f"--quota-backend-bytes={256 * 1024 * 1024}" in default.container("etcd")["command"]


def test_each_of_three_members_looks_whether_it_lost_its_volume_and_can_be_told_to_join_the_others() -> None:
    rendered = render({"etcd.replicas": 3, "etcd.persistence.enabled": True})
    (looks,) = rendered.pods()["etcd"]["spec"]["initContainers"]
    etcd = rendered.container("etcd")
    # By an annotation of the pod both know whether the cluster is there already.
    assert f"--data-dir={looks['command'][2]}" in etcd["command"]
    assert f"--initial-advertise-peer-urls={looks['command'][3]}" in etcd["command"]
    assert looks["command"][4] == rendered.environment("server")["BOOK_SERVER_ETCD"]
    field = {"fieldRef": {"fieldPath": "metadata.annotations['bookmesh/initial-cluster-state']"}}
    for container in (looks, etcd):
        assert {"name": "ETCD_INITIAL_CLUSTER_STATE", "valueFrom": field} in container["env"]
    # A flag would win over the variable.
    assert not [flag for flag in etcd["command"] if "initial-cluster-state" in flag]
    script = rendered.one("ConfigMap", "etcd")["data"]["rejoin.py"]
    assert script.strip() == (CHART / "files/rejoin.py").read_text().strip()


def test_a_lone_member_has_nobody_to_join(default: Rendered) -> None:
    assert "initContainers" not in default.pods()["etcd"]["spec"]


def test_no_zipkin_at_all_means_no_spans() -> None:
    assert render({"zipkin.enabled": False}).environment("server")["BOOK_SERVER_ZIPKIN"] == "off"


@pytest.mark.parametrize("spans", [1000, 100_000, 1_000_000])
def test_zipkins_heap_holds_its_spans_and_its_memory_limit_the_heap(spans: int) -> None:
    rendered = render({"zipkin.maxSpans": spans})
    environment = rendered.environment("zipkin")
    assert environment["MEM_MAX_SPANS"] == str(spans)
    heap = re.search(r"-Xmx(\d+)m", environment["JAVA_OPTS"] or "")
    assert heap
    assert int(heap[1]) * 1024 >= 64 * 1024 + 2 * spans
    limit = rendered.container("zipkin")["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) >= int(heap[1]) + 256


def test_a_heap_that_cannot_hold_the_spans_is_refused() -> None:
    with pytest.raises(RenderError, match=r"zipkin.heapMiB is 128, but zipkin.maxSpans of 100000 needs at least 259"):
        render({"zipkin.heapMiB": 128})
    assert "-Xmx300m" in str(render({"zipkin.heapMiB": 300}).environment("zipkin")["JAVA_OPTS"])


def test_zipkins_resources_can_be_set_in_part() -> None:
    resources = render({"zipkin.resources": {"limits": {"memory": "1Gi"}}}).container("zipkin")["resources"]
    assert resources["limits"]["memory"] == "1Gi"
    assert "memory" in resources["requests"]


def test_zipkin_can_have_a_fixed_node_port(default: Rendered) -> None:
    assert default.one("Service", "zipkin")["spec"]["type"] == "ClusterIP"
    spec = render({"zipkin.service": {"type": "NodePort", "nodePort": 30411}}).one("Service", "zipkin")["spec"]
    assert (spec["type"], spec["ports"][0]["nodePort"]) == ("NodePort", 30411)
    inside = render({"zipkin.service.nodePort": 30411}).one("Service", "zipkin")["spec"]
    assert "nodePort" not in inside["ports"][0], "Kubernetes refuses one in a ClusterIP Service"


def test_the_test_pod_is_the_only_hook_of_helm_test_so_that_its_logs_can_be_asked_for(default: Rendered) -> None:
    hooks = [manifest for manifest in default.all if "helm.sh/hook" in manifest["metadata"].get("annotations", {})]
    assert {hook["kind"]: hook["metadata"]["annotations"]["helm.sh/hook"] for hook in hooks} == {
        "Pod": "test",
        "Job": "post-delete",
    }
    test = default.pods()["test"]
    assert test["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation",
    }
    assert test["spec"]["activeDeadlineSeconds"] < 300
    assert len(hooks) == 2


def test_uninstalling_takes_the_test_pod_away_without_a_pod_that_would_have_to_find_a_node(default: Rendered) -> None:
    sweep = default.one("Job", "test")
    assert sweep["metadata"]["annotations"] == {
        "helm.sh/hook": "post-delete",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded,hook-failed",
    }
    # Nothing to do, so it is done at once. What it selects it adopts, and what it has adopted goes with it.
    spec = sweep["spec"]
    assert (spec["completions"], spec["manualSelector"]) == (0, True)
    wanted = spec["selector"]["matchLabels"].items()
    selected = {name for name, pod in default.pods().items() if wanted <= pod["metadata"]["labels"].items()}
    assert selected == {"test", "sweep"}
    assert spec["activeDeadlineSeconds"] < 10


def test_the_test_pod_runs_the_script_that_the_chart_holds(default: Rendered) -> None:
    script = default.one("ConfigMap", "test")["data"]["check.py"]
    assert script.strip() == (CHART / "files/check.py").read_text().strip()
    (volume,) = default.pods()["test"]["spec"]["volumes"]
    assert volume["configMap"]["name"] == default.one("ConfigMap", "test")["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "has", "lacks"),
    [
        (
            {},
            ["logs deployment/demo-bookmesh-client", "exec demo-bookmesh-etcd-0", "service/demo-bookmesh-zipkin"],
            ["job/"],
        ),
        ({"client.mode": "job"}, ["logs job/demo-bookmesh-client-", "--for=condition=Complete"], ["deployment/"]),
        (
            {"client.mode": "off", "zipkin.enabled": False},
            ["helm -n books test demo --logs"],
            ["logs ", "port-forward"],
        ),
        ({"server.autoscaling.enabled": True}, ["rollout status"], ["server.replicas"]),
    ],
)
def test_the_notes_name_only_what_is_there(
    values: dict[str, Any], has: list[str], lacks: list[str], tmp_path: Path
) -> None:
    text = notes_of(values, tmp_path)
    for part in has:
        assert part in text
    for part in lacks:
        assert part not in text
    # It would make the next `helm upgrade` conflict.
    assert "kubectl -n books scale" not in text
