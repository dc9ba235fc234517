"""Images: pulled where a registry can be reached, else made from source; then book-server's and book-client's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploy.kind import docker, from_source
from deploy.kind.errors import KindError
from deploy.kind.settings import ROOT, program_images
from deploy.kind.steps import say, step
from toolchain.command import run
from toolchain.pins import PINS

if TYPE_CHECKING:
    from deploy.kind.settings import Settings
    from deploy.kind.steps import Step

_PROBE = "hello-world:latest"
"""What is pulled to see whether Docker Hub answers; it has 13 kB."""
_PATIENCE = 15.0
_BASES = ("python", "etcd", "zipkin", "zipkin-full", "mariadb")
"""Images that are pulled, or made from source, by their names in pins.toml; all but the first run in the cluster."""


def origin(settings: Settings) -> str:
    """Decide where images come from: `registry` or `source`, where the user has not.

    Raises:
        KindError: a node image is chosen, which can only be pulled, and no registry answers.
    """
    chosen = settings.images or _where_docker_hub_leads()
    if chosen == "source" and settings.node:
        raise KindError(f"NODE is {settings.node!r}: only where images are pulled; here the node is made from source")
    return chosen


def _where_docker_hub_leads() -> str:
    # The engine is asked, not this machine: it may have a proxy or a mirror.
    there = docker.image_id(_PROBE)
    try:
        answers = run(["docker", "pull", "--quiet", _PROBE], lambda _: None, timeout=_PATIENCE) == 0
    except TimeoutError:
        answers = False
    if not answers:
        say("Docker Hub does not answer: images are made from package registries (IMAGES=registry insists on pulling)")
        return "source"
    if there is None:
        docker.ask("image", "rm", _PROBE)
    say("Docker Hub answers: images are pulled (IMAGES=source makes them from source)")
    return "registry"


def make(source: str) -> None:
    """Have the base images and both programs' images in Docker, up to date.

    Args:
        source: `registry` or `source`.

    Raises:
        KindError: one cannot be had.
        ToolchainError: a program that goes into one cannot be had.
    """
    if source == "source":
        from_source.make(*_BASES)
    else:
        for image in (PINS[name].image for name in _BASES):
            with step(f"pulling {image}") as pulling:
                _pull(pulling, image)
    for image in program_images():
        dockerfile = ROOT / "services" / image.partition(":")[0].rpartition("/")[2] / "Dockerfile"
        with step(f"the image {image}") as building:
            arguments = ["--file", str(dockerfile), "--build-arg", f"BASE={PINS['python'].image}", "--tag", image]
            building.run("docker", "build", "--force-rm", *arguments, ROOT, env=docker.BUILDER)


def needed() -> list[str]:
    """Name the images that run in the cluster."""
    return [*program_images(), *(PINS[name].image for name in _BASES if name != "python")]


def _pull(step: Step, image: str) -> None:
    """Pull an image that is not there; one made from source under its name gives way."""
    if docker.image_id(image) is None or docker.recipe_of(image) is not None:
        step.run("docker", "pull", image)
