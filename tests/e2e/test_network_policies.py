"""Only the real paths are open, where the cluster's network enforces policies at all: which a probe finds out."""

import json
from functools import partial
from typing import Any

import pytest
import yaml

from tests.e2e.expectations import all_succeeded
from tests.e2e.mesh import CHART, Mesh
from tests.e2e.waiting import NotYetError, until

ENFORCED_WITHIN = 15.0
PATIENCE = 3.0
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3]))"
LISTEN = "import socket; s = socket.create_server(('', 8080))\nwhile True: s.accept()[0].close()"
IDLE = "import signal; signal.pause()"


def test_network_policies_let_nobody_in_but_those_who_must(mesh: Mesh) -> None:
    start_pod(mesh, "listener", LISTEN)
    start_pod(mesh, "stranger", IDLE)
    listener = address_of(mesh, "listener")
    until(partial(expect, mesh, listener, 8080, reached=True), within=30, what="a pod without a policy is open")
    deny_all(mesh, "listener")
    try:
        until(partial(expect, mesh, listener, 8080, reached=False), within=ENFORCED_WITHIN, what="a policy at work")
    except TimeoutError:
        pytest.skip(f"not enforced here: a stranger gets through {ENFORCED_WITHIN:g} s after a policy that denies all")

    mesh.install(replicas=2)
    mesh.mark("a stranger knocks")
    (etcd,), (server, _), (zipkin,) = (mesh.living(component) for component in ("etcd", "server", "zipkin"))
    for pod, port, reached in ((server, 50051, False), (etcd, 2379, False), (etcd, 2380, False), (zipkin, 9411, True)):
        knock = partial(expect, mesh, pod.ip, port, reached=reached)
        until(knock, within=ENFORCED_WITHIN, what=f"{port} of {pod.name} {'open' if reached else 'shut'} to a stranger")
    mesh.helm("test", mesh.release)
    mesh.wait_calls(100)
    calls = mesh.stop_traffic()
    mesh.verdict(calls)
    all_succeeded(mesh, calls)


def start_pod(mesh: Mesh, name: str, program: str) -> None:
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


def expect(mesh: Mesh, host: str, port: int, *, reached: bool) -> None:
    """Have the stranger connect."""
    command = ("/venv/bin/python", "-c", CONNECT, host, str(port), str(PATIENCE))
    done = mesh.cluster.run("kubectl", "-n", mesh.namespace, "exec", "stranger", "--", *command, check=False)
    if (done.returncode == 0) is not reached:
        said = done.stderr.strip().splitlines()[-1:] or "connected"
        raise NotYetError(f"{host}:{port}: {said}")
