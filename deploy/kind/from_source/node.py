"""What kind's node image is made of: Kubernetes' programs, kind's own files, and the control plane's images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.kind import docker
from deploy.kind.errors import KindError, StepError
from deploy.kind.steps import step
from toolchain.pins import PINS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.kind.steps import Step

_HERE = Path(__file__).with_name("node")
_PROXY_BASE = "bookmesh/kube-proxy-base"
_PROXY_TOOLS = """\
FROM bookmesh/debian
RUN apt-get update -q \\
 && apt-get install -q -y --no-install-recommends iptables nftables conntrack kmod \\
 && rm -rf /var/lib/apt/lists/*
"""
_PROGRAM = """\
FROM {base}
COPY {program} /usr/local/bin/
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["/usr/local/bin/{program}"]
"""


def fill(context: Path, kubernetes: Path, others: Path, cni: Path) -> None:
    """Put in all that the Dockerfile copies.

    Args:
        context: the build context.
        kubernetes: folder of Kubernetes' programs.
        others: of coredns, etcd, kube-router and local-path-provisioner.
        cni: of the network plugins.

    Raises:
        KindError: an image of the control plane cannot be made.
    """
    work = context.parent
    with step("the control plane's images") as making:
        pause = work / "pause"
        making.run("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", pause, _HERE / "pause/main.go",
                   env={"CGO_ENABLED": "0"})  # fmt: skip
        _control_plane(making, work, context / "images.tar", [kubernetes, others], pause)
    shutil.copytree(_kind_files(work), context / "kind")
    for path in (context / "kind", *(context / "kind").rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)  # Go's module cache is read-only
    shutil.copytree(_HERE / "files", context / "files")
    for name, programs in (
        ("bin", [*(kubernetes / name for name in ("kubeadm", "kubelet", "kubectl")), others / "kube-router"]),
        ("cni", sorted(cni.iterdir())),
    ):
        (context / name).mkdir()
        for program in programs:
            shutil.copy(program, context / name)


def _control_plane(making: Step, work: Path, archive: Path, folders: Sequence[Path], pause: Path) -> None:
    """Make an image of each program, under the name that kubeadm gives it, and save them all into an archive."""
    made = [_PROXY_BASE]
    try:
        _build(making, work / "proxy", _PROXY_BASE, _PROXY_TOOLS)
        for image in _wanted(folders[0] / "kubeadm"):
            program = image.rpartition("/")[2].partition(":")[0]
            found = (
                pause if program == "pause" else next((f / program for f in folders if (f / program).exists()), None)
            )
            if found is None:
                raise KindError(f"kubeadm wants {image}, which {Path(__file__).name} cannot make")
            base = _PROXY_BASE if program == "kube-proxy" else "scratch"
            _build(making, work / f"image-{len(made)}", image, _PROGRAM.format(base=base, program=program), found)
            made.append(image)
        making.run("docker", "save", "--output", archive, PINS["debian"].image, *made[1:])
    finally:
        # They are in the archive; here they would only be in the way of images that are pulled.
        docker.ask("image", "rm", *(image for image in made if docker.image_id(image)))


def _wanted(kubeadm: Path) -> list[str]:
    """List the control plane's images as kubeadm does, and those that a node has besides.

    Raises:
        StepError: kubeadm fails.
    """
    command = [str(kubeadm), "config", "images", "list", "--kubernetes-version", f"v{PINS['kubernetes'].version}"]
    asked = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=60)
    if asked.returncode != 0:
        raise StepError(f"kubeadm lists no images: {asked.stderr.strip()}")
    return list(dict.fromkeys([*asked.stdout.split(), PINS["pause"].image, "bookmesh/local-path-provisioner:latest"]))


def _build(making: Step, context: Path, image: str, dockerfile: str, program: Path | None = None) -> None:
    context.mkdir()
    (context / "Dockerfile").write_text(dockerfile)
    if program is not None:
        shutil.copy(program, context)
    making.run("docker", "build", "--force-rm", "--tag", image, context, env=docker.BUILDER)


def _kind_files(work: Path) -> Path:
    """Give the folder of the files that kind's node image has, out of kind's module.

    Raises:
        StepError: Go cannot get the module.
    """
    module = f"sigs.k8s.io/kind@v{PINS['kind'].version}"
    asked = subprocess.run(
        ["go", "mod", "download", "-json", module],
        cwd=work,
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if asked.returncode != 0:
        raise StepError(f"go mod download {module} failed: {(asked.stdout + asked.stderr).strip()[-300:]}")
    return Path(json.loads(asked.stdout)["Dir"]) / "images/base/files"
