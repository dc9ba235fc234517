"""What etcd holds of a release, and when each key came and went: seen by etcd's own tool, not by our code."""

import base64
import json
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from tests.e2e.harness.cluster import Cluster, CommandError

__all__ = ["KeyChange", "Registry", "changes_in"]


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A key was put, or deleted; the time is when etcdctl told of it, in seconds since 1970."""

    time: float
    instance: str
    deleted: bool


def changes_in(answer: str, prefix: str, now: float) -> list[KeyChange]:
    """The changes in one line of `etcdctl watch -w json`."""
    changes = []
    for event in json.loads(answer).get("Events", []):
        key = base64.b64decode(event["kv"]["key"]).decode()
        # PUT is type 0, which JSON leaves out; some releases print names.
        deleted = event.get("type", 0) in (1, "DELETE")
        changes.append(KeyChange(now, key.removeprefix(prefix), deleted))
    return changes


class Registry:
    """Follows the release's keys for as long as it is open, whatever becomes of etcd's pod."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, prefix: str) -> None:
        self.prefix = prefix
        self.changes: list[KeyChange] = []
        self._cluster = cluster
        self._namespace = namespace
        self._pod = pod
        self._stop = threading.Event()
        self._watching: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, name=f"registry of {namespace}", daemon=True)
        self._thread.start()

    def instances(self) -> set[str]:
        """What is registered now.

        Raises:
            CommandError: etcd does not answer.
        """
        return self._list()[0]

    def _list(self) -> tuple[set[str], int]:
        """What is registered, and etcd's revision at that."""
        answer = json.loads(self.etcdctl("get", "--prefix", self.prefix, "-w", "json"))
        instances = {base64.b64decode(kv["value"]).decode() for kv in answer.get("kvs", [])}
        return instances, int(answer["header"]["revision"])

    def etcdctl(self, *args: str) -> str:
        """What etcdctl prints, in etcd's pod."""
        return self._cluster.kubectl(self._namespace, "exec", self._pod, "--", "etcdctl", *args)

    def gone_at(self, instance: str) -> float | None:
        """When an instance's key went for good; None: it is still there."""
        last = next((c for c in reversed([*self.changes]) if c.instance == instance), None)
        return last.time if last and last.deleted else None

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._watching is not None:
            self._watching.kill()
            self._watching.wait()

    def _run(self) -> None:
        while not self._stop.is_set():
            # Each key's present state first: nothing is missed between two watches.
            known = {c.instance: c.deleted for c in self.changes}
            with suppress(CommandError, ValueError):
                now = time.time()
                present, revision = self._list()
                gone = {instance for instance, deleted in known.items() if not deleted} - present
                come = {instance for instance in present if known.get(instance, True)}
                self.changes += [KeyChange(now, instance, instance in gone) for instance in sorted(gone | come)]
                self._watch(revision + 1)
            self._stop.wait(0.3)

    def _watch(self, revision: int) -> None:
        command = (
            "exec",
            self._pod,
            "--",
            "etcdctl",
            "watch",
            "--prefix",
            self.prefix,
            f"--rev={revision}",
            "-w",
            "json",
        )
        self._watching = watching = self._cluster.spawn("kubectl", "-n", self._namespace, *command)
        assert watching.stdout is not None
        with watching:
            for line in watching.stdout:
                if line.startswith("{"):
                    self.changes += changes_in(line, self.prefix, time.time())
                if self._stop.is_set():
                    watching.kill()
