"""What the driver makes of Docker's answers; `docker info` as recorded from engines of several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.kind.docker import Engine, why_not

OVERLAY: dict[str, Any] = {
    "Name": "vm",
    "ServerVersion": "20.10.24+dfsg1",
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"], ["Native Overlay Diff", "true"]],
    "DockerRootDir": "/var/lib/docker",
    "MemTotal": 25275686912,
}
CONTAINERD: dict[str, Any] = {
    **OVERLAY,
    "ServerVersion": "29.1.3",
    "Driver": "overlayfs",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
}
NAMES = ["bookmesh/book-server:0.1.0", "openzipkin/zipkin-slim:3.6.1"]


def saved(info: dict[str, Any], api: str) -> list[str]:
    return [str(part) for part in Engine.of(info, api).save(Path("a.tar"), NAMES, "linux/arm64")]


def test_containerds_store_is_asked_for_the_one_platform_that_it_has_whole() -> None:
    expected = ["docker", "save", "--platform", "linux/arm64", "--output", "a.tar", *NAMES]
    assert saved(CONTAINERD, "1.52") == saved(CONTAINERD, "1.48") == expected


@pytest.mark.parametrize(("info", "api"), [(OVERLAY, "1.41"), (OVERLAY, "1.52"), (CONTAINERD, "1.47")])
def test_dockers_own_store_and_clients_before_28_save_what_there_is(info: dict[str, Any], api: str) -> None:
    assert saved(info, api) == ["docker", "save", "--output", "a.tar", *NAMES]


def test_an_engine_that_tells_little_is_taken_for_a_plain_one() -> None:
    engine = Engine.of({"DriverStatus": None}, "1.24")
    assert (engine.containerd_store, engine.memory, engine.root) == (False, 0, "")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            "usermod -aG docker",
        ),
        (
            "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
            "usermod -aG docker",
        ),
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "start it",
        ),
        (
            "failed to connect to the docker API at unix:///var/run/docker.sock; check if the daemon is running",
            "start it",
        ),
        ("error during connect: lookup build.example: no such host", "start it"),
        ("something\nthat nobody foresaw", "that nobody foresaw"),
        ("", "docker info"),
    ],
)
def test_why_docker_cannot_be_used_is_one_line_that_says_what_to_do(said: str, advice: str) -> None:
    assert advice in why_not(said)
    assert "\n" not in why_not(said)
