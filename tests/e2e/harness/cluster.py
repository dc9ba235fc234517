"""The cluster as the tests use it: Kubernetes' API, kubectl, helm, and the nodes' container runtime."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.e2e.harness.waiting import NotYetError, until

__all__ = ["ROOT", "Cluster", "CommandError"]

ROOT = Path(__file__).resolve().parents[3]
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


class CommandError(AssertionError):
    """kubectl, helm or docker failed; the text has what it said."""


class Cluster:
    """One cluster.

    Args:
        kubeconfig: of an administrator.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), client_configuration=settings)
        # Each followed log and each watch holds a connection.
        settings.connection_pool_maxsize = 100
        self.api = client.ApiClient(settings)
        self.core = client.CoreV1Api(self.api)
        self.apps = client.AppsV1Api(self.api)
        self._env = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "PATH": f"{ROOT / '.tools/bin'}:{os.environ['PATH']}",
        }

    def raw(self, path: str, query: Mapping[str, str] | None = None, *, read_timeout: float = 30) -> Any:
        """GET a path of the API, unread: for streams, and for what has no model.

        Raises:
            ApiException: the status is not 2xx.
        """
        request = self.api.param_serialize(
            "GET", path, query_params=[*(query or {}).items()], auth_settings=["BearerToken"]
        )
        answer = self.api.call_api(*request, _request_timeout=(10, read_timeout))
        if not 200 <= answer.status <= 299:
            answer.read()
            raise ApiException(http_resp=answer)
        return answer.response

    def json(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """GET a path of the API, as JSON."""
        return json.loads(self.raw(path, query).data)

    def node_addresses(self) -> list[str]:
        """Every node's own IPv4 address."""
        return [
            address["address"]
            for node in self.json("/api/v1/nodes")["items"]
            for address in node["status"]["addresses"]
            if address["type"] == "InternalIP" and ":" not in address["address"]
        ]

    def workers(self) -> list[str]:
        """The names of the nodes that are not of the control plane; a taint of the moment does not matter."""
        nodes = self.json("/api/v1/nodes", {"labelSelector": f"!{CONTROL_PLANE}"})["items"]
        return [node["metadata"]["name"] for node in nodes]

    def wait_no_taints(self, node: str) -> None:
        """Wait until a node takes pods again: its taints go some time after it is Ready."""

        def untainted() -> None:
            if taints := self.json(f"/api/v1/nodes/{node}")["spec"].get("taints"):
                raise NotYetError(f"{[taint['key'] for taint in taints]}")

        until(untainted, within=60, what=f"no taints on {node}")

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """All pods of a namespace, as the API gives them."""
        query = {"labelSelector": selector} if selector else {}
        items: list[dict[str, Any]] = self.json(f"/api/v1/namespaces/{namespace}/pods", query)["items"]
        return items

    def run(
        self, *command: str, within: float = 120, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, helm or docker against this cluster.

        Raises:
            CommandError: it failed (unless `check` is off), or took longer than `within` seconds.
        """
        try:
            done = subprocess.run(
                command,
                env=self._env,
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=within,
                check=False,
                input=stdin,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandError(f"{' '.join(command)}: not done after {within:g} s: {error.stderr!r}") from error
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise CommandError(f"{' '.join(command)}: exit status {done.returncode}: {said}")
        return done

    def spawn(self, *command: str) -> subprocess.Popen[str]:
        """Start a command that goes on, in a process group of its own; its output is line by line."""
        return subprocess.Popen(
            command,
            env=self._env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            bufsize=1,
            start_new_session=True,
        )

    def kubectl(self, namespace: str, *args: str, within: float = 60) -> str:
        """What kubectl prints."""
        return self.run("kubectl", "-n", namespace, *args, within=within).stdout

    def kill(self, pod: Mapping[str, Any]) -> None:
        """SIGKILL the process of a pod's container: from its node, as nothing inside may signal process 1.

        Raises:
            CommandError: the node is not a container of this machine's docker, as kind's are.
        """
        container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
        node = pod["spec"]["nodeName"]
        self.run("docker", "exec", node, "ctr", "-n", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)

    @contextmanager
    def namespace(self, purpose: str) -> Iterator[str]:
        """A namespace with a name of its own, which enforces Pod Security `restricted`; deleted afterwards."""
        name = f"e2e-{purpose[:40].rstrip('-')}-{secrets.token_hex(3)}"
        self.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels=RESTRICTED)))
        try:
            until(lambda: self._service_account(name), within=30, what=f"the default service account of {name}")
            yield name
        finally:
            self.core.delete_namespace(name)

    def _service_account(self, namespace: str) -> None:
        try:
            self.json(f"/api/v1/namespaces/{namespace}/serviceaccounts/default")
        except ApiException as error:
            raise NotYetError(str(error.status)) from error
