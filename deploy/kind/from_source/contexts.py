"""What the Dockerfiles of the small images copy: Debian, etcd, Zipkin."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from pathlib import Path

from deploy.kind.errors import KindError
from deploy.kind.steps import say, step
from toolchain import platforms
from toolchain.cache import Cache, default_root
from toolchain.pins import PINS

_BOOTSTRAP = Path(__file__).with_name("debian") / "bootstrap"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""The certificate authorities that this machine trusts; so do the images: a network may sign TLS with its own."""


def debian(context: Path) -> None:
    """Put in Debian as a tar file, which is kept in the user's cache, and certificate authorities.

    Raises:
        KindError: Debian cannot be bootstrapped.
    """
    shutil.copy(_debian_tarball(), context / "debian.tar")
    if AUTHORITIES.exists():
        shutil.copy(AUTHORITIES, context / AUTHORITIES.name)
        return
    with tarfile.open(context / "debian.tar") as archive:
        inside = archive.extractfile(f".{AUTHORITIES}")
        assert inside is not None
        (context / AUTHORITIES.name).write_bytes(inside.read())


def nothing(_: Path) -> None:
    """Put in nothing: the Dockerfile copies nothing."""


def etcd(context: Path, programs: Path) -> None:
    """Put in etcd and etcdctl."""
    _copy(context, programs)


def zipkin(context: Path, tools: Path) -> None:
    """Put in Zipkin's jar and a Java runtime."""
    shutil.copy(tools / "zipkin.jar", context)
    shutil.copytree((tools / "java-runtime/release").resolve().parent, context / "java-runtime")


def zipkin_full(context: Path, tools: Path) -> None:
    """Put in the jar of a Zipkin with all of its stores."""
    shutil.copy(tools / "zipkin.jar", context)


def _debian_tarball() -> Path:
    """Give the cached tar file, made where it is missing or not what was put there."""
    version = PINS["debian"].version
    made_by = hashlib.sha256(_BOOTSTRAP.read_bytes()).hexdigest()[:12]
    key = f"debian-{version}-{platforms.current()}-{made_by}"
    cache = Cache(default_root())
    with cache.locked(key, on_wait=lambda: say("waiting for another run that bootstraps Debian")):
        if cache.flaw(key) is not None:
            if shutil.which("mmdebstrap") is None:
                raise KindError("mmdebstrap is needed to make images from source: apt-get install mmdebstrap")
            with step(f"Debian {version}, from its packages") as bootstrapping, cache.filling(key) as folder:
                bootstrapping.run(_BOOTSTRAP, version, folder / "debian.tar")
        return cache.folder(key) / "debian.tar"


def _copy(context: Path, programs: Path) -> None:
    """Copy the files that links lead to, so that a build context has them."""
    for program in programs.iterdir():
        shutil.copy(program, context)
