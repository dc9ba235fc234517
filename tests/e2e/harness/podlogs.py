"""Every line that the containers of a namespace print, collected while they run, so that none goes with its pod."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import urllib3
from kubernetes.client.exceptions import ApiException

from tests.e2e.harness.cluster import Cluster

__all__ = ["Line", "LogReader", "new_lines"]

# What the kubelet writes instead of the log where the node is out of inotify instances.
CANNOT_FOLLOW = "failed to create fsnotify watcher"

Line = tuple[str, str]


def new_lines(raw: Iterable[str], last: str) -> Iterator[Line]:
    """Split lines into time and text, and pass over those up to `last`: a stream that is opened again repeats them."""
    for line in raw:
        time_, _, text = line.partition(" ")
        # The runtime cuts trailing zeros of the fraction, so times do not compare as text.
        if not last or _key(time_) > _key(last):
            yield time_, text


class LogReader:
    """Follows one container's log until its pod is gone, over restarts and broken connections."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, container: str) -> None:
        self.pod = pod
        self.container = container
        self.lines: list[Line] = []
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        self._stop = threading.Event()
        # The pod will print nothing more: set by whoever watches pods.
        self.pod_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"log of {pod}", daemon=True)
        self._thread.start()

    @property
    def texts(self) -> list[str]:
        """The lines without their times."""
        return [text for _, text in self.lines]

    def close(self) -> None:
        """Stop following."""
        self._stop.set()

    def join(self, timeout: float) -> bool:
        """Wait until the last line is there; False: not within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            over = self.pod_over.is_set()
            try:
                self._follow()
            except ApiException as error:
                if error.status == 404:
                    return
            except (urllib3.exceptions.HTTPError, OSError):
                pass
            if over:
                return
            self._stop.wait(0.2)

    def _follow(self) -> None:
        stream = self._cluster.raw(
            self._path + "/log",
            {"container": self.container, "follow": "true", "timestamps": "true"},
            read_timeout=3600,
        )
        try:
            last = self.lines[-1][0] if self.lines else ""
            for line in new_lines(_split(stream), last):
                if CANNOT_FOLLOW in " ".join(line):
                    # What the log held until now came before this: read it again and again instead.
                    return
                self.lines.append(line)
                if self._stop.is_set():
                    return
        finally:
            stream.close()


def _split(stream: Any) -> Iterator[str]:
    rest = b""
    while chunk := stream.read1(65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


def _key(timestamp: str) -> tuple[str, str]:
    whole, _, fraction = timestamp.rstrip("Z").partition(".")
    return whole, fraction
