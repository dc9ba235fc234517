"""`make e2e`: a cluster and a kubeconfig of its own, the tests, and nothing left behind whatever ends it.

    python -m tests.e2e [ARGUMENT OF PYTEST]...

KEEP=1 keeps the cluster, and takes the one that was kept. TLS=1 has all scenarios with mutual TLS. WORKERS=2 is the
number of tests at a time.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from deploy.kind.settings import ROOT
from deploy.kind.steps import reporting, say
from deploy.kind.temporary import temporary_cluster
from toolchain.command import run
from toolchain.interruption import Interruptions


def main(arguments: list[str]) -> int:
    """Make the cluster and run the tests; their exit status."""
    os.environ["BOOKMESH_E2E_TLS"] = os.environ.get("TLS", "")
    began = time.monotonic()
    with reporting("e2e"), Interruptions() as interruptions, temporary_cluster(interruptions):
        say(f"cluster up after {time.monotonic() - began:.0f} s", "e2e")
        workers = os.environ.get("WORKERS") or "2"
        command = [sys.executable, "-m", "pytest", "tests/e2e", "-n", workers, "--dist", "load", *arguments]
        with interruptions.armed():
            # As by Ctrl-C: the tests take back what they made, for a cluster that is kept.
            return run(command, None, cwd=ROOT, end_by=signal.SIGINT, grace=30.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
