"""Only the real paths are open."""

import json
from functools import partial
from typing import Any

import yaml

from tests.e2e.harness.expectations import all_succeeded
from tests.e2e.harness.mesh import CHART, Mesh
from tests.e2e.harness.waiting import NotYetError, until

ENFORCED_WITHIN = 15.0
PATIENCE = 3.0
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3]))"
LISTEN = "import socket; s = socket.create_server(('', 8080))\nwhile True: s.accept()[0].close()"
IDLE = "import signal; signal.pause()"


def test_network_policies_allow_only_the_connections_that_are_needed(mesh: Mesh) -> None:
    strangers = [f"stranger-on-{node}" for node in mesh.cluster.workers()]
    for name, node in zip(strangers, mesh.cluster.workers(), strict=True):
        start_pod(mesh, name, IDLE, node=node)
    for name in ("open", "shut"):
        start_pod(mesh, name, LISTEN)
    deny_all(mesh, "shut")
    mesh.install(replicas=2)
    mesh.mark("strangers knock")
    (etcd,), (server, _), (zipkin,) = (mesh.living(component) for component in ("etcd", "server", "zipkin"))
    doors = [(address_of(mesh, "open"), 8080, True), (address_of(mesh, "shut"), 8080, False)]
    doors += [(server.ip, 50051, False), (etcd.ip, 2379, False), (etcd.ip, 2380, False), (zipkin.ip, 9411, False)]
    knocks = [(stranger, *door) for stranger in strangers for door in doors]
    knocks += [(server.name, address_of(mesh, "open"), 8080, False), (server.name, etcd.ip, 2379, True)]
    for source, host, port, reached in knocks:
        what = f"{host}:{port} {'open' if reached else 'shut'} to {source}"
        until(partial(expect, mesh, source, host, port, reached=reached), within=ENFORCED_WITHIN, what=what)
    mesh.helm("test", mesh.release)
    mesh.wait_calls(100)
    calls = mesh.stop_traffic()
    mesh.verdict(calls)
    all_succeeded(mesh, calls)


def start_pod(mesh: Mesh, name: str, program: str, *, node: str | None = None) -> None:
    """A pod of the client's image, as Pod Security `restricted` asks for, with labels that no policy knows."""
    values = json.dumps(mesh.values)
    version = mesh.cluster.json("/version")["gitVersion"]
    manifests = mesh.helm("template", mesh.release, str(CHART), "--kube-version", version, "-f", "-", stdin=values)
    deployments: list[Any] = [item for item in yaml.safe_load_all(manifests) if item and item["kind"] == "Deployment"]
    client = next(item for item in deployments if item["metadata"]["name"] == f"{mesh.fullname}-client")
    spec = client["spec"]["template"]["spec"]
    container = spec["containers"][0]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"role": name}},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "nodeSelector": {"kubernetes.io/hostname": node} if node else {},
            "securityContext": spec["securityContext"],
            "containers": [
                {key: container[key] for key in ("image", "imagePullPolicy", "securityContext")}
                | {"name": name, "command": ["/venv/bin/python", "-c", program]}
            ],
        },
    }
    mesh.cluster.run("kubectl", "-n", mesh.namespace, "apply", "-f", "-", stdin=json.dumps(pod))
    mesh.cluster.kubectl(mesh.namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s", within=90)


def deny_all(mesh: Mesh, role: str) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"deny-{role}"},
        "spec": {"podSelector": {"matchLabels": {"role": role}}, "policyTypes": ["Ingress"], "ingress": []},
    }
    mesh.cluster.run("kubectl", "-n", mesh.namespace, "apply", "-f", "-", stdin=json.dumps(policy))


def address_of(mesh: Mesh, pod: str) -> str:
    return mesh.cluster.kubectl(mesh.namespace, "get", "pod", pod, "-o", "jsonpath={.status.podIP}")


def expect(mesh: Mesh, source: str, host: str, port: int, *, reached: bool) -> None:
    """Have a pod connect."""
    command = ("/venv/bin/python", "-c", CONNECT, host, str(port), str(PATIENCE))
    done = mesh.cluster.run("kubectl", "-n", mesh.namespace, "exec", source, "--", *command, check=False)
    if (done.returncode == 0) is not reached:
        said = done.stderr.strip().splitlines()[-1:] or "connected"
        raise NotYetError(f"{host}:{port}: {said}")
