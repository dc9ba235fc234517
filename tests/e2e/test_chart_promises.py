"""What the chart promises in words."""

import json
import time
from collections import Counter

import pytest
import requests

from tests.e2e.harness.cluster import CommandError
from tests.e2e.harness.expectations import all_succeeded
from tests.e2e.harness.forward import forwarded
from tests.e2e.harness.mesh import Mesh
from tests.e2e.harness.notes import commands_in
from tests.e2e.harness.waiting import NotYetError, until

# What Kubernetes itself puts into a namespace.
KUBERNETES_OWN = {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}


def test_every_command_of_the_notes_works(mesh: Mesh) -> None:
    mesh.install(replicas=2)
    notes = mesh.helm("get", "notes", mesh.release)
    commands = commands_in(notes)
    assert len(commands) >= 6, notes
    # The commands reuse the release's values: they have to know of the client.
    mesh.apply()
    for command in commands:
        mesh.mark(command[command.index(mesh.namespace) + 1] if mesh.namespace in command else command[0])
        if "port-forward" in command:
            with forwarded(mesh.cluster, command) as url:
                page = "/zipkin/" if command[-1].endswith(":9411") else "/"
                requests.get(url + page, timeout=10).raise_for_status()
        else:
            mesh.cluster.run(*command, within=150)
    mesh.wait_calls(50)
    programs = Counter(command[0] for command in commands)
    mesh.record.figure("commands of the notes", ", ".join(f"{n} {name}" for name, n in sorted(programs.items())))
    calls = mesh.stop_traffic()
    mesh.record.verdict = verdict = mesh.verdict(calls)
    all_succeeded(mesh, calls)
    assert verdict.whole == len(calls), str(verdict)


def test_uninstall_leaves_nothing(mesh: Mesh) -> None:
    mesh.install(replicas=2)
    mesh.wait_calls(50)
    mesh.helm("test", mesh.release)
    assert mesh.registry.instances() == mesh.instances()
    # A pod that the uninstalling made would find no node.
    mesh.apply(test={"nodeSelector": {"bookmesh": "nowhere"}})
    mesh.mark("helm uninstall")
    began = time.monotonic()
    mesh.helm("uninstall", mesh.release, "--timeout", "90s")
    took = time.monotonic() - began
    mesh.record.figure("helm uninstall, where nothing can be scheduled", f"{took:.1f} s", f"{mesh.bound(10):.1f} s")
    assert took < mesh.bound(10)

    def nothing_left() -> None:
        if left := _objects(mesh) - KUBERNETES_OWN:
            raise NotYetError(", ".join(sorted(left)))

    until(nothing_left, within=60, what="an empty namespace", every=1)
    codes = {pod.name: pod.exit_codes for pod in mesh.pods.all if pod.component in ("server", "client")}
    assert not any(code for found in codes.values() for code in found), codes


def test_an_upgrade_keeps_what_a_running_release_depends_on(mesh: Mesh) -> None:
    mesh.apply(server={"replicas": 1}, client={"mode": "off"}, zipkin={"enabled": False}, tls={"enabled": True})
    mesh.wait_ready("etcd", 1)
    etcd, server = ("StatefulSet", f"{mesh.fullname}-etcd"), ("Deployment", f"{mesh.fullname}-server")
    secrets = [("Secret", f"{mesh.fullname}-{component}-tls") for component in ("server", "client", "etcd")]
    there = json.loads(mesh.cluster.kubectl(mesh.namespace, "get", "secrets", "-o", "json"))["items"]
    files = {("Secret", secret["metadata"]["name"]): secret["data"] for secret in there}

    kept = mesh.upgraded()
    assert [kept[secret]["data"] for secret in secrets] == [files[secret] for secret in secrets]
    (pod,) = mesh.living("etcd")
    annotations = pod.latest["metadata"]["annotations"]
    assert kept[etcd]["spec"]["template"]["metadata"]["annotations"].items() <= annotations.items()

    # Another name in the servers' certificate: all are made anew, and etcd's pod with them, which trusts the authority.
    renamed = mesh.upgraded(tls={"serverName": "books"})
    assert not any(renamed[secret]["data"] == files[secret] for secret in secrets)
    template = renamed[etcd]["spec"]["template"]
    assert not template["metadata"]["annotations"].items() <= annotations.items()

    scaled = mesh.upgraded(server={"autoscaling": {"enabled": True, "minReplicas": 1}})
    assert scaled[server]["spec"]["replicas"] == 1
    assert mesh.upgraded(server={"autoscaling": {"enabled": True}})[server]["spec"]["replicas"] == 2, "minReplicas"

    with pytest.raises(CommandError, match=r"etcd\.replicas is 1 and cannot become 3 by an upgrade"):
        mesh.upgraded(etcd={"replicas": 3, "persistence": {"enabled": True}})


def _objects(mesh: Mesh) -> set[str]:
    kinds = mesh.cluster.kubectl("default", "api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    kinds = [kind for kind in kinds if kind.split(".")[0] not in ("events", "podmetrics")]
    listed = mesh.cluster.kubectl(
        mesh.namespace, "get", ",".join(kinds), "-o", "jsonpath={range .items[*]}{.kind}/{.metadata.name} {end}"
    )
    return {*listed.split()}
