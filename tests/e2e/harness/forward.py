"""A pod's port on this machine, by `kubectl port-forward`."""

import re
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.waiting import NotYetError, until

__all__ = ["forwarded"]


@contextmanager
def forwarded(cluster: Cluster, command: Sequence[str]) -> Iterator[str]:
    """Run a port-forward, and give the URL that leads there.

    Args:
        cluster: whose pod it is.
        command: the whole command. Its local port, if it has one, is left to kubectl: another test may have it.
    """
    *words, ports = command
    forward = cluster.spawn(*words, f":{ports.rpartition(':')[2]}")
    said: list[str] = []
    assert forward.stdout is not None
    reader = threading.Thread(target=lambda: said.extend(forward.stdout or ()), daemon=True)
    reader.start()

    def leads_there() -> str:
        for line in said:
            if found := re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", line):
                return f"http://127.0.0.1:{found[1]}"
        raise NotYetError(f"kubectl said {said}")

    try:
        yield until(leads_there, within=30, what=" ".join(command))
    finally:
        forward.send_signal(signal.SIGINT)
        forward.wait(10)
        reader.join(5)
        forward.stdout.close()
