"""What becomes of a namespace's pods: seen by a watch as it happens, and their logs with it."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3
from kubernetes.client.exceptions import ApiException

from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.podlogs import LogReader

__all__ = ["PodLife", "Pods"]

COMPONENT = "app.kubernetes.io/component"


@dataclass(slots=True)
class PodLife:
    """One pod's life; times are when the watch told of it, in seconds since 1970."""

    name: str
    component: str
    uid: str
    created: float
    ip: str = ""
    node: str = ""
    ready: float | None = None
    leaving: float | None = None
    gone: float | None = None
    is_ready: bool = False
    exit_codes: list[int] = field(default_factory=list)
    restarts: int = 0
    latest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def living(self) -> bool:
        """Whether it is there and was not told to go."""
        return self.gone is None and self.leaving is None


class Pods:
    """Watches the pods of a namespace, and follows the log of each of their containers."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._namespace = namespace
        self._stop = threading.Event()
        self._lives: dict[str, PodLife] = {}
        self._logs: dict[tuple[str, str], LogReader] = {}
        self._thread = threading.Thread(target=self._run, name=f"pods of {namespace}", daemon=True)
        self._thread.start()

    def of(self, component: str) -> list[PodLife]:
        """All pods that a component ever had, the oldest first."""
        return sorted((p for p in [*self._lives.values()] if p.component == component), key=lambda pod: pod.created)

    @property
    def all(self) -> list[PodLife]:
        """All pods that there ever were."""
        return [*self._lives.values()]

    def logs_of(self, pod: PodLife) -> list[LogReader]:
        """The logs of a pod's containers."""
        return [reader for (uid, _), reader in [*self._logs.items()] if uid == pod.uid]

    def close(self) -> None:
        """Stop watching and following."""
        self._stop.set()
        for reader in [*self._logs.values()]:
            reader.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._watch()
            except (ApiException, urllib3.exceptions.HTTPError, OSError, ValueError):
                self._stop.wait(0.2)

    def _watch(self) -> None:
        listing = self._cluster.json(self._path)
        present = {pod["metadata"]["uid"] for pod in listing["items"]}
        for pod in listing["items"]:
            self._see(pod)
        for life in self._lives.values():
            if life.uid not in present:
                self._gone(life)
        stream = self._cluster.raw(
            self._path,
            {"watch": "true", "resourceVersion": listing["metadata"]["resourceVersion"]},
            read_timeout=600,
        )
        rest = b""
        while not self._stop.is_set() and (chunk := stream.read1(65536)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                life = self._see(event["object"])
                if event["type"] == "DELETED":
                    self._gone(life)

    def _see(self, pod: dict[str, Any]) -> PodLife:
        now = time.time()
        meta, status = pod["metadata"], pod.get("status", {})
        life = self._lives.setdefault(
            meta["uid"], PodLife(meta["name"], meta.get("labels", {}).get(COMPONENT, "?"), meta["uid"], now)
        )
        life.latest = pod
        life.ip = status.get("podIP", life.ip)
        life.node = pod["spec"].get("nodeName", life.node)
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        life.is_ready = conditions.get("Ready") == "True"
        if life.is_ready and life.ready is None:
            life.ready = now
        if "deletionTimestamp" in meta and life.leaving is None:
            life.leaving = now
        codes = []
        for container in status.get("containerStatuses", []):
            life.restarts = max(life.restarts, container.get("restartCount", 0))
            ended = container.get("state", {}).get("terminated")
            if ended:
                codes.append(ended["exitCode"])
            if container.get("containerID"):
                self._follow(life, container["name"])
        if codes:
            life.exit_codes = codes
        if status.get("phase") in ("Succeeded", "Failed"):
            self._over(life)
        return life

    def _follow(self, life: PodLife, container: str) -> None:
        if (life.uid, container) not in self._logs:
            self._logs[life.uid, container] = LogReader(self._cluster, self._namespace, life.name, container)

    def _gone(self, life: PodLife) -> None:
        if life.gone is None:
            life.gone = time.time()
            life.is_ready = False
        self._over(life)

    def _over(self, life: PodLife) -> None:
        for reader in self.logs_of(life):
            reader.pod_over.set()
