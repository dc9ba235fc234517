"""Renders the chart as helm does, for tests that look at what would be installed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/bookmesh"
HELM = ROOT / ".tools/bin/helm"
CI_VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
COMPONENTS = ("server", "client", "etcd", "zipkin", "mariadb", "metrics", "test")

# An etcd of one's own that wants certificates and a login.
EXTERNAL_ETCD = {
    "etcd.enabled": False,
    "etcd.externalEndpoints": ["etcd.infra:2379"],
    "etcd.tlsSecret": "etcd-client",
    "etcd.loginSecret": "etcd-user",
}

Manifest = dict[str, Any]


class RenderError(Exception):
    """helm refused."""


class Rendered:
    """The objects that a release would consist of.

    Args:
        manifests: as `helm template` prints them.
    """

    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self.all = list(manifests)

    def of_kind(self, *kinds: str) -> list[Manifest]:
        return [manifest for manifest in self.all if manifest["kind"] in kinds]

    def one(self, kind: str, component: str, name_ends: str = "") -> Manifest:
        """The only object of a kind and component (or with that ending of its name).

        Raises:
            LookupError: there is none, or there are several.
        """
        found = [
            manifest
            for manifest in self.of_kind(kind)
            if manifest["metadata"]["labels"]["app.kubernetes.io/component"] == component
            and manifest["metadata"]["name"].endswith(name_ends)
        ]
        if len(found) != 1:
            raise LookupError(f"expected one {kind} of {component}, got {names(found)}; all: {names(self.all)}")
        return found[0]

    def pods(self) -> dict[str, Manifest]:
        """By component: the pods' metadata and spec, wherever they are written; "sweep" is that of uninstalling."""
        found = {}
        for manifest in self.of_kind("Deployment", "StatefulSet", "Job"):
            template = manifest["spec"]["template"]
            hook = "helm.sh/hook" in manifest["metadata"].get("annotations", {})
            found["sweep" if hook else template["metadata"]["labels"]["app.kubernetes.io/component"]] = template
        for manifest in self.of_kind("Pod"):
            found["test"] = manifest
        return found

    def container(self, component: str) -> Manifest:
        """A component's one container."""
        (container,) = self.pods()[component]["spec"]["containers"]
        return dict(container)

    def containers(self) -> list[tuple[str, Manifest]]:
        """Of all pods, those that run first included; each after `component/name`."""
        return [
            (f"{component}/{container['name']}", container)
            for component, pod in self.pods().items()
            for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"])
        ]

    def environment(self, component: str) -> dict[str, str | None]:
        """Of a component's one container; None: a value that is not a plain one."""
        return {entry["name"]: entry.get("value") for entry in self.container(component)["env"]}


def names(manifests: Iterable[Manifest]) -> list[str]:
    return [f"{manifest['kind']}/{manifest['metadata']['name']}" for manifest in manifests]


@functools.cache
def helm(*arguments: str, environment: tuple[tuple[str, str], ...] = ()) -> str:
    """What helm prints; the same for the same arguments.

    Raises:
        RenderError: it fails.
    """
    env = {**os.environ, **dict(environment)}
    done = subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=60, check=False, env=env)
    if done.returncode != 0:
        raise RenderError(done.stderr)
    return done.stdout


def render(
    values: dict[str, Any] | Path | None = None,
    *,
    release: str = "demo",
    namespace: str = "books",
    chart: Path = CHART,
    kubernetes: str = "1.35.0",
    flags: tuple[str, ...] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Rendered:
    """The objects of a release with these values (or this values file) over the chart's own.

    Raises:
        RenderError: helm refuses them.
    """
    command = ["template", release, str(chart), "--namespace", namespace, "--kube-version", kubernetes, *flags]
    if isinstance(values, Path):
        command += ["--values", str(values)]
    else:
        command += [
            part for key, value in (values or {}).items() for part in ("--set-json", f"{key}={json.dumps(value)}")
        ]
    output = helm(*command, environment=tuple(environment.items()))
    return Rendered(manifest for manifest in yaml.load_all(output, Loader=yaml.CSafeLoader) if manifest)


def notes_of(values: dict[str, Any], folder: Path) -> str:
    """The text of NOTES.txt: helm prints it on installing only, so it is rendered as an object's.

    Args:
        values: over the chart's own.
        folder: for a copy of the chart.
    """
    chart = Path(shutil.copytree(CHART, folder / "bookmesh"))
    notes = chart / "templates/NOTES.txt"
    (chart / "templates/_notes.tpl").write_text('{{ define "notes" }}' + notes.read_text() + "{{ end }}")
    (chart / "templates/notes.yaml").write_text('kind: Notes\ntext: {{ include "notes" . | quote }}\n')
    (rendered,) = render(values, chart=chart).of_kind("Notes")
    return str(rendered["text"])
