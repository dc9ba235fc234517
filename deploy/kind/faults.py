"""The usual faults of a machine: looked for before a cluster is made, and recognized in what a command printed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.kind.errors import FaultError

if TYPE_CHECKING:
    from deploy.kind.docker import Engine

_GIB = 1 << 30
DISK = 6 * _GIB
"""Bytes that a new cluster takes: 1.7 GB a node, and the archive of the images for a moment; measured, rounded up."""
MEMORY = 2 * _GIB
"""Bytes that three nodes (1.0 GiB) and some releases take; measured."""
INOTIFY = {"max_user_instances": 512, "max_user_watches": 65536}
"""What three nodes want of the kernel: https://kind.sigs.k8s.io/docs/user/known-issues/#pod-errors-due-to-too-many-open-files"""
_LIMITS = Path("/proc/sys/fs/inotify")
_SET = "sysctl " + " ".join(f"fs.inotify.{name}={value}" for name, value in INOTIFY.items())

_EXPLANATIONS = (
    (r"no space left on device|disk quota exceeded", "the disk is full: `docker system df` shows what can go"),
    (
        r"port is already allocated|address already in use",
        "a port is taken: `make kind-up ZIPKIN_PORT=0` takes any free one",
    ),
    (r"too many open files|inotify", f"the kernel's limits are too low: as root, `{_SET}`"),
    (
        r"cannot allocate memory|out of memory|oomkilled|signal: killed",
        "memory is short: end other programs, or give Docker more",
    ),
    (
        r"content digest \S+ ?(?:: )?not found",
        "this Docker cannot save one platform of an image: take Docker 28 or newer",
    ),
    (r"toomanyrequests|rate limit", "the registry's limit is reached: `docker login`, wait, or IMAGES=source"),
    (r"permission denied.*docker|docker.*permission denied", "Docker's socket is not for this user"),
    (
        r"no such host|name resolution|i/o timeout|tls handshake timeout|network is unreachable|connection refused",
        "the network does not lead there: try again, or IMAGES=source where no registry is reached",
    ),
)


def explanation(said: str) -> str | None:
    """Recognize a usual fault in what a failed command printed; what to do about it, or None."""
    return next((advice for pattern, advice in _EXPLANATIONS if re.search(pattern, said, re.IGNORECASE)), None)


def look_for_faults(engine: Engine, port: int) -> list[str]:
    """Look at what a new cluster will need, before minutes are spent.

    Args:
        engine: where it is going to be.
        port: the port that it will have on 127.0.0.1; 0: any.

    Returns:
        Warnings, a line each.

    Raises:
        FaultError: it cannot work.
    """
    if engine.memory and engine.memory < MEMORY:
        raise FaultError(
            f"too little memory: Docker's machine has {_gib(engine.memory)}, a cluster takes {_gib(MEMORY)}: "
            "give it more, or end other programs"
        )
    if port and _on_this_machine() and not _free(port):
        raise FaultError(f"ZIPKIN_PORT: {port} is taken on 127.0.0.1: `make kind-up ZIPKIN_PORT=0` takes any free port")
    if engine.name != platform.node():
        return []  # a virtual machine or another host, whose disk and kernel are not this one's
    return look_at_this_machine(Path(engine.root))


def look_at_this_machine(folder: Path, limits: Path = _LIMITS) -> list[str]:
    """Look at the disk below Docker's folder and at the kernel's limits.

    Args:
        folder: Docker's.
        limits: the kernel's limits for inotify, a file each.

    Returns:
        Warnings, a line each.

    Raises:
        FaultError: too little disk.
    """
    if os.access(folder, os.R_OK) and (free := shutil.disk_usage(folder).free) < DISK:
        raise FaultError(
            f"too little disk: {_gib(free)} free in {folder}, a cluster takes {_gib(DISK)}: "
            "`docker system df` shows what can go"
        )
    low = []
    for name, wanted in INOTIFY.items():
        file = limits / name
        if file.exists() and (now := int(file.read_text())) < wanted:
            low.append(f"fs.inotify.{name} is {now}, {wanted} is better")
    return [f"{', '.join(low)}: pods may fail with `too many open files`; as root, `{_SET}`"] if low else []


def _on_this_machine() -> bool:
    return os.environ.get("DOCKER_HOST", "").partition("://")[0] in ("", "unix", "npipe")


def _free(port: int) -> bool:
    with socket.socket() as trial:
        # As the engine does: what a connection leaves behind for a minute is no obstacle.
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except PermissionError:
            return True  # below 1024: the engine may be allowed to
        except OSError:
            return False
    return True


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
