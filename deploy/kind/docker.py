"""What the driver asks of Docker: the engine's properties, images by name, and how to save them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deploy.kind.errors import FaultError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PATIENCE = 60.0
"""Seconds for a question; a busy engine takes some."""
_SAVES_ONE_PLATFORM = (1, 48)
"""The API version (Docker 28) from which `docker save` takes a platform."""
BUILDER = {"BUILDX_BUILDER": "default"}
"""Environment for `docker build`: a builder of the user's own may leave its images elsewhere."""


@dataclass(frozen=True)
class Engine:
    """The engine, as far as it matters here.

    Args:
        api: the version of the API that client and engine talk, as numbers.
        containerd_store: whether images are in containerd's store, which keeps those of several platforms whole.
        name: the host's name.
        root: the folder that images and volumes are in, on that host.
        memory: bytes that the host has.
    """

    api: tuple[int, int]
    containerd_store: bool
    name: str
    root: str
    memory: int

    @classmethod
    def of(cls, info: Mapping[str, Any], api: str) -> Engine:
        """Read it out of `docker info` and the API's version."""
        major, minor = (int(number) for number in api.split("."))
        return cls(
            api=(major, minor),
            # https://docs.docker.com/engine/storage/containerd/
            containerd_store=["driver-type", "io.containerd.snapshotter.v1"] in (info.get("DriverStatus") or []),
            name=info.get("Name", ""),
            root=info.get("DockerRootDir", ""),
            memory=info.get("MemTotal", 0),
        )

    def save(self, archive: Path, images: Sequence[str], platform: str) -> list[str | Path]:
        """Give the command that saves images into an archive that another containerd can import whole.

        containerd's store has the index of all platforms of a pulled image, but the content of one. An archive with
        that index cannot be imported: "content digest not found" (kubernetes-sigs/kind#3795).

        Args:
            archive: the file.
            images: their names.
            platform: theirs, `linux/amd64` for instance.
        """
        only = ["--platform", platform] if self.containerd_store and self.api >= _SAVES_ONE_PLATFORM else []
        return ["docker", "save", *only, "--output", archive, *images]


def engine() -> Engine:
    """Ask the engine about itself.

    Raises:
        FaultError: there is none, or it does not answer, or not to this user.
    """
    if shutil.which("docker") is None:
        raise FaultError("docker is needed: https://docs.docker.com/engine/install")
    try:
        asked = _docker("info", "--format", "{{json .}}")
    except subprocess.TimeoutExpired as error:
        raise FaultError(f"Docker does not answer within {_PATIENCE:.0f} s: is its engine overloaded?") from error
    try:
        info = json.loads(asked.stdout)
    except ValueError:
        info = {}
    # Some versions of the client say what is wrong here, with exit status 0.
    wrong = "\n".join([*(info.get("ServerErrors") or []), asked.stderr]).strip()
    if asked.returncode != 0 or info.get("ServerErrors") or not info.get("ServerVersion"):
        raise FaultError(why_not(wrong))
    version = _docker("version", "--format", "{{.Client.APIVersion}}")
    found = re.match(r"\d+\.\d+", version.stdout)
    return Engine.of(info, found.group() if found else "1.24")


def why_not(said: str) -> str:
    """Say in one line why Docker cannot be used, and what to do; out of what its client said."""
    if re.search(r"permission denied", said, re.IGNORECASE):
        return (
            "Docker's socket is not for this user: `sudo usermod -aG docker $USER`, then log in again; or be root, "
            "or use rootless Docker"
        )
    if re.search(r"cannot connect|failed to connect|no such host|connection refused|is the docker daemon running", said,
                 re.IGNORECASE):  # fmt: skip
        return "no Docker engine answers: start it (`systemctl start docker`, Docker Desktop; see `docker context ls`)"
    return f"Docker does not answer: {said.splitlines()[-1] if said else 'see `docker info`'}"


def image_id(image: str) -> str | None:
    """Give an image's id; None: there is no such image here."""
    return _inspected(image, "{{.Id}}")


def recipe_of(image: str) -> str | None:
    """Give the label `bookmesh.recipe`: what an image was made from, if it was made here."""
    return _inspected(image, '{{index .Config.Labels "bookmesh.recipe"}}') or None


def platform_of(image: str) -> str:
    """Give the platform of an image that is here, `linux/amd64` for instance."""
    return _inspected(image, "{{.Os}}/{{.Architecture}}") or ""


def ask(*arguments: str) -> str | None:
    """Give what a docker command prints; None: it fails or takes too long."""
    try:
        done = _docker(*arguments)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _inspected(image: str, what: str) -> str | None:
    return ask("image", "inspect", "--format", what, image)


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PATIENCE,
        check=False,
    )
