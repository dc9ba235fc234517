"""What a failed test leaves behind: everything that it takes to find out why."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.e2e.harness.mesh import Mesh

__all__ = ["save_bundle"]

TRACES = 5000


def save_bundle(mesh: Mesh, folder: Path) -> None:
    """Write logs of all pods there ever were, events, `kubectl describe`, etcd's keys, traces and values."""
    folder.mkdir(parents=True, exist_ok=True)
    for pod in mesh.pods.all:
        for reader in mesh.pods.logs_of(pod):
            lines = "".join(f"{time} {text}\n" for time, text in [*reader.lines])
            (folder / f"{pod.name}.{reader.container}.log").write_text(lines)
    kubectl = mesh.cluster.kubectl
    _write(folder / "events.txt", lambda: kubectl(mesh.namespace, "get", "events", "--sort-by=.lastTimestamp"))
    _write(folder / "describe.txt", lambda: kubectl(mesh.namespace, "describe", "all,networkpolicies"))
    _write(folder / "pods.yaml", lambda: kubectl(mesh.namespace, "get", "pods", "-o", "yaml"))
    _write(folder / "values.yaml", lambda: mesh.helm("get", "values", mesh.release, "--all"))
    _write(folder / "manifest.yaml", lambda: mesh.helm("get", "manifest", mesh.release))
    _write(folder / "etcd.json", lambda: mesh.registry.etcdctl("get", "--prefix", "/", "-w", "json"))
    _write(folder / "traces.json", lambda: _traces(mesh))


def _traces(mesh: Mesh) -> str:
    recent = mesh.zipkin.get("/api/v2/traces", {"serviceName": "book-client", "limit": str(TRACES)})
    return json.dumps([*mesh.zipkin.traces.values()] or recent, indent=1)


def _write(path: Path, content: Callable[[], str]) -> None:
    """Whatever cannot be had says why: a bundle is made when things are broken."""
    try:
        path.write_text(content())
    except Exception as error:  # noqa: BLE001
        path.write_text(f"could not be had: {error!r}\n")
