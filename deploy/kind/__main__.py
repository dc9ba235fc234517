"""The command `python -m deploy.kind up|down|images`, for the Makefile."""

from __future__ import annotations

import os
from contextlib import ExitStack

import click

from deploy.kind import cluster, docker, images
from deploy.kind.settings import ROOT, Settings
from deploy.kind.steps import reporting, say
from toolchain.interruption import Interruptions


@click.group()
def main() -> None:
    """Make the cluster on this machine, delete it, or build its images; CLUSTER, ZIPKIN_PORT, IMAGES, NODE choose."""
    os.environ["PATH"] = f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


@main.command()
def up() -> None:
    """Make the cluster, or bring the one that is there up to date."""
    with reporting(), Interruptions() as interruptions, ExitStack() as held:
        settings = Settings.of(os.environ)
        with interruptions.armed():
            docker.engine()  # before waiting for anything
            held.enter_context(cluster.locked(f"cluster-{settings.cluster}"))
        cluster.up(settings, interruptions)
        say(f"next: helm install mesh deploy/helm/bookmesh --kube-context kind-{settings.cluster}")


@main.command()
def down() -> None:
    """Delete the cluster, its network and its context."""
    with reporting(), Interruptions() as interruptions, interruptions.armed():
        settings = Settings.of(os.environ)
        docker.engine()
        with cluster.locked(f"cluster-{settings.cluster}"):
            cluster.down(settings.cluster)


@main.command(name="images")
def build() -> None:
    """Build the images of book-server and book-client."""
    with reporting(), Interruptions() as interruptions, interruptions.armed():
        settings = Settings.of(os.environ)
        docker.engine()
        images.make(images.origin(settings))


if __name__ == "__main__":
    main()
