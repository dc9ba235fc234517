"""A cluster for one run of the e2e tests or of their mutations, deleted after it however the run ends."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from deploy.kind import cluster, docker
from deploy.kind.settings import ROOT, Settings
from deploy.kind.steps import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolchain.interruption import Interruptions

KUBECONFIG = ROOT / ".run/e2e/kubeconfig"
"""A kubeconfig of the checkout's own; the user's stays as it is."""
# Each log that is followed takes one of these; there are 128 by default. It is the machine's limit, as nodes share its
# kernel, and stays until that restarts.
_RAISE_INOTIFY = "f=/proc/sys/fs/inotify/max_user_instances; [ $(cat $f) -ge 1024 ] || echo 1024 >$f"


@contextmanager
def temporary_cluster(interruptions: Interruptions) -> Iterator[str]:
    """Have a cluster with the images in it; its name.

    E2E_CLUSTER names it; KEEP=1 keeps it, and takes one that was kept. In the environment, KUBECONFIG and
    BOOKMESH_E2E_KUBECONFIG lead to it. Another checkout that wants the same cluster waits until this one is done.

    Args:
        interruptions: armed while it is made. The caller arms its own work; deleting is not disturbed.

    Raises:
        KindError: it cannot be made.
        ToolchainError: a program that goes into an image cannot be had.
        Interrupted: a signal came.
    """
    settings = Settings.of(
        {**os.environ, "CLUSTER": os.environ.get("E2E_CLUSTER") or "bookmesh-e2e", "ZIPKIN_PORT": "0"}
    )
    name = settings.cluster
    os.environ["PATH"] = f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    with ExitStack() as held:
        with interruptions.armed():
            docker.engine()  # before waiting for anything
            held.enter_context(cluster.locked(f"cluster-{name}"))
        KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
        os.environ |= {"KUBECONFIG": str(KUBECONFIG), "BOOKMESH_E2E_KUBECONFIG": str(KUBECONFIG)}
        try:
            cluster.up(settings, interruptions)
            if docker.ask("exec", f"{name}-control-plane", "sh", "-c", _RAISE_INOTIFY) is None:
                say("fs.inotify.max_user_instances could not be raised to 1024: logs may not be followed")
            yield name
        finally:
            if os.environ.get("KEEP"):
                say(f"the cluster stays: export KUBECONFIG={KUBECONFIG}; `make kind-down CLUSTER={name}` takes it away")
            else:
                # The lock of a process that was killed while it wrote: kind would wait for it, and no other
                # process writes here.
                KUBECONFIG.with_suffix(".lock").unlink(missing_ok=True)
                cluster.down(name)
                KUBECONFIG.unlink(missing_ok=True)
