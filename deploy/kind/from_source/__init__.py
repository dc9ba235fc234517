"""Images made out of package registries alone, under the names of those that otherwise come from container registries.

Each folder beside this file has an image's Dockerfile. An image carries a digest of what it is made from in its label
`bookmesh.recipe`, so that only what has changed is made again.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.kind import docker
from deploy.kind.errors import KindError
from deploy.kind.from_source import contexts, node
from deploy.kind.steps import say, step
from toolchain import platforms
from toolchain.cache import Cache, default_root
from toolchain.install import install
from toolchain.pins import PINS
from toolchain.progress import showing
from toolchain.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Image:
    """One image.

    Args:
        folder: of its Dockerfile here; its name for `make`.
        pin: its name in pins.toml.
        fill: puts what the Dockerfile copies into the build context (first argument), out of the folders of the tools.
        base: the image that it is made from, if that is made here, too.
        tools: groups of the toolchain's tools that go into it; each group is given to `fill` as one folder.
        code: files here that decide what is in it, beside those of its folder.
        pins: other pins that do.
    """

    folder: str
    pin: str
    fill: Callable[..., None]
    base: str = ""
    tools: tuple[tuple[str, ...], ...] = ()
    code: tuple[Path, ...] = ()
    pins: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is called."""
        return PINS[self.pin].image

    def recipe(self) -> str:
        """Twelve hex digits for all that it is made from: files, tools, versions, its base and the kind of machine."""
        told = [platforms.current(), self.name, *(f"{pin} {PINS[pin].version}" for pin in (self.pin, *self.pins))]
        told += [TOOLS[tool].key for group in self.tools for tool in group]
        if self.base:
            told.append(IMAGES[self.base].recipe())
        digest = hashlib.sha256("\n".join(told).encode())
        for file in (*sorted(path for path in (_HERE / self.folder).rglob("*") if path.is_file()), *self.code):
            digest.update(f"\n{file.name}\n".encode())
            # The authorities are of this machine, and not there on each.
            digest.update(file.read_bytes() if file.exists() else b"")
        return digest.hexdigest()[:12]


IMAGES = {
    image.folder: image
    for image in (
        Image("debian", "debian", contexts.debian, code=(contexts.AUTHORITIES,)),
        Image("python", "python", contexts.nothing, base="debian"),
        Image("etcd", "etcd", contexts.etcd, tools=(("etcd-for-image",),)),
        Image("zipkin", "zipkin", contexts.zipkin, base="debian", tools=(("zipkin", "java-for-image"),)),
        Image("zipkin-full", "zipkin-full", contexts.zipkin_full, base="zipkin", tools=(("zipkin-full",),)),
        Image("mariadb", "mariadb", contexts.nothing, base="debian"),
        Image(
            "node",
            "kubernetes",
            node.fill,
            base="debian",
            tools=(
                ("kubernetes",),
                ("coredns", "local-path-provisioner", "etcd-for-image", "kube-router"),
                ("cni-plugins",),
            ),
            code=(Path(node.__file__),),
            pins=("kind", "pause"),
        ),
    )
}
"""Every image that can be made, by the name of its folder."""


def make(*names: str) -> None:
    """Make those images that are not there or not up to date, and what they are made from.

    Args:
        names: of `IMAGES`.

    Raises:
        KindError: one cannot be made.
        ToolchainError: a program that goes into one cannot be had.
    """
    if sys.platform != "linux":
        raise KindError("images are made from source on Linux only")
    waiting = "waiting for another run that makes images from source"
    with Cache(default_root()).locked("images-from-source", on_wait=lambda: say(waiting)):
        for name in names:
            _make(IMAGES[name])


def _make(image: Image) -> None:
    recipe = image.recipe()
    if docker.recipe_of(image.name) == recipe:
        return
    if image.base:
        _make(IMAGES[image.base])
    with tempfile.TemporaryDirectory(prefix="bookmesh-image-") as folder:
        work = Path(folder)
        tools = [_tools(group, work / f"tools-{number}") for number, group in enumerate(image.tools)]
        context = work / "context"
        context.mkdir()
        shutil.copy(_HERE / image.folder / "Dockerfile", context)
        image.fill(context, *tools)
        with step(f"the image {image.name}") as building:
            # The old image, if there is one, stays whole until this one is.
            named = ["--label", f"bookmesh.recipe={recipe}", "--tag", image.name]
            arguments = [*named, "--build-arg", f"VERSION={PINS[image.pin].version}"]
            building.run("docker", "build", "--force-rm", *arguments, context, env=docker.BUILDER)


def _tools(names: Sequence[str], folder: Path) -> Path:
    """Have tools in a folder, as links into the cache."""
    for name in names:
        with showing() as progress:
            found = install(TOOLS[name], folder, Cache(default_root()), progress)
        say(found)
    return folder
