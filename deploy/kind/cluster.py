"""The cluster itself: made, brought up to date, deleted."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.kind import docker, from_source, images
from deploy.kind.faults import look_for_faults
from deploy.kind.steps import say, step
from toolchain.cache import Cache, default_root
from toolchain.pins import PINS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from deploy.kind.settings import Settings
    from deploy.kind.steps import Step
    from toolchain.interruption import Interruptions

_CONFIGURATION = Path(__file__).with_name("cluster.yaml")
_TIME_TO_ANSWER = 60.0
"""Seconds for a cluster that is there: its machine may be busy."""
_POD_SUBNETS = {"ipv4": "10.244.0.0/16", "ipv6": "fd00:10:244::/56"}
"""Of kind's own choice; the pod network of the node image made from source knows them, too."""
_CTR = ("ctr", "--namespace", "k8s.io", "images")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a name among all checkouts on this machine, one holder at a time."""
    with Cache(default_root()).locked(name, on_wait=lambda: say(f"waiting for another run that holds {name}")):
        yield


def up(settings: Settings, interruptions: Interruptions) -> None:
    """Make the cluster, or bring the one that is there up to date: build the images and load those that changed.

    The caller holds its lock. What this call began and could not finish, it takes away.

    Raises:
        KindError: it cannot be made.
        ToolchainError: a program that goes into an image cannot be had.
        Interrupted: a signal came.
    """
    name, began, unfinished = settings.cluster, time.monotonic(), False
    try:
        with interruptions.armed():
            engine = docker.engine()
            there = _there(name)
            if not there:
                for warning in look_for_faults(engine, settings.zipkin_port):
                    say(warning)
            source = images.origin(settings)
            if source == "source":
                from_source.make("node")
            images.make(source)
            if not there:
                unfinished = True
                _create(settings, source)
            _load(engine, name)
            unfinished = False
    finally:
        if unfinished:
            say(f"the cluster {name} could not be finished")
            down(name)
    say(f"the cluster {name} is up after {time.monotonic() - began:.0f} s; kubectl's context is kind-{name}")


def down(name: str) -> None:
    """Delete a cluster, its context in the kubeconfig, and, after the last cluster, Docker's network for them.

    The caller holds its lock.

    Raises:
        StepError: kind cannot delete it.
    """
    with step(f"deleting the cluster {name}") as deleting:
        deleting.run("kind", "delete", "cluster", "--name", name)
    if _unused_network():  # else there is nothing to wait for
        with locked("kind-network"):
            if _unused_network():
                docker.ask("network", "rm", "kind")


def _unused_network() -> bool:
    return docker.ask("ps", "--all", "--quiet", "--filter", "network=kind") == ""


def _there(name: str) -> bool:
    """Tell whether a cluster is there and all its nodes are ready; one that is not goes."""
    if name not in (_asked("kind", "get", "clusters") or "").split():
        return False
    _asked("kind", "export", "kubeconfig", "--name", name)
    deadline = time.monotonic() + _TIME_TO_ANSWER
    while not _ready(name):
        if time.monotonic() > deadline:
            say(f"the cluster {name} is there, but its nodes are not all ready: it is made anew")
            down(name)
            return False
        time.sleep(1)
    say(f"the cluster {name} is there")
    return True


def _ready(name: str) -> bool:
    answer = _asked("kubectl", "--context", f"kind-{name}", "--request-timeout=5s", "get", "nodes", "-o", "json")
    ready = [
        node["metadata"]["name"]
        for node in json.loads(answer or '{"items": []}')["items"]
        for condition in node["status"]["conditions"]
        if (condition["type"], condition["status"]) == ("Ready", "True")
    ]
    return sorted(ready) == nodes(name) != []


def configuration_of(settings: Settings, proxy_mode: str) -> str:
    """Give kind's configuration of the cluster, as YAML."""
    chosen = {
        "ZIPKIN_PORT": str(settings.zipkin_port),
        "PROXY_MODE": proxy_mode,
        "IP_FAMILY": settings.ip_family,
        "POD_SUBNET": _POD_SUBNETS[settings.ip_family],
    }
    return re.sub("|".join(chosen), lambda found: chosen[found[0]], _CONFIGURATION.read_text("utf-8"))


def _create(settings: Settings, source: str) -> None:
    # kube-router writes all of iptables' filter table anew, with what it read a moment before: a proxy that keeps rules
    # there would lose some. With nftables it has a table of its own.
    mode = "nftables" if source == "source" else "iptables"
    node = PINS["kubernetes"].image if source == "source" else settings.node
    text = configuration_of(settings, mode)
    # One at a time: two that make Docker's network `kind` at the same moment make it twice.
    with (
        step(f"the cluster {settings.cluster}: a control plane and two workers") as creating,
        locked("kind-network"),
        tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as configuration,
    ):
        configuration.write(text)
        configuration.flush()
        arguments = ["--name", settings.cluster, "--config", configuration.name, "--wait", "180s"]
        command = ["kind", "create", "cluster", *arguments, *(["--image", node] if node else [])]
        # Where a signal ends kind, what it has asked Docker for is waited for: the engine makes those containers all
        # the same, and they would come after the cluster's deletion.
        creating.run(*command, end_alone=True)


def _load(engine: docker.Engine, name: str) -> None:
    """Have the images in both workers, those that changed.

    What a worker has under a name is remembered by a label beside the image in its store, which goes with the image.
    """
    workers = [node for node in nodes(name) if node.startswith(f"{name}-worker")]
    ids = {image: docker.image_id(image) for image in images.needed()}
    stale = {image: made for image, made in ids.items() if not all(_has(worker, image, made) for worker in workers)}
    if stale:
        with step(f"loading {len(stale)} images into the workers") as loading:
            load(loading, engine, name, [*stale], workers)
            for worker in workers:
                for image, made in stale.items():
                    loading.run("docker", "exec", worker, *_CTR, "label", full_name(image), f"bookmesh.id={made}")


def nodes(name: str) -> list[str]:
    """List the nodes of a cluster, sorted; none where there is no such cluster."""
    return sorted((_asked("kind", "get", "nodes", "--name", name) or "").split())


def load(loading: Step, engine: docker.Engine, name: str, names: list[str], into: list[str]) -> None:
    """Load images of Docker into nodes of a cluster.

    By an archive: `kind load docker-image` cannot save one platform of an image (see `Engine.save`).
    """
    with tempfile.TemporaryDirectory(prefix="bookmesh-load-") as folder:
        archive = Path(folder) / "images.tar"
        loading.run(*engine.save(archive, names, docker.platform_of(names[0])))
        loading.run("kind", "load", "image-archive", "--name", name, "--nodes", ",".join(into), archive)


def _has(node: str, image: str, made: str | None) -> bool:
    listed = docker.ask("exec", node, *_CTR, "ls", f"name=={full_name(image)}") or ""
    return f"bookmesh.id={made}" in listed


def full_name(image: str) -> str:
    """Name an image as containerd does: with its registry, and Docker's own with their folder there."""
    first, slash, _ = image.partition("/")
    if not slash:
        return f"docker.io/library/{image}"
    return image if "." in first else f"docker.io/{image}"


def _asked(*command: str) -> str | None:
    """Give what a command prints; None: it fails or takes too long."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout if done.returncode == 0 else None
