"""Replicas and clients for the fault tests, and what their logs say."""

import math
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from localmesh.components import BookClient, BookServer
from localmesh.waiting import NotYetError, until

FAST = ("--rate", "0", "--max-list-latency", "0", "--max-info-latency", "0", "--drain", "0s", "--lease-ttl", "5")


class SickServer(BookServer):
    """A replica that is Ready and answers UNAVAILABLE to a share of its calls; well at first."""

    def __init__(self, run_dir: Path, *, etcd: str) -> None:
        super().__init__(run_dir, *FAST, etcd=etcd)
        self._share = run_dir / f"{self.name}.share"
        self._env = {"SICK_SHARE": str(self._share)}
        self.command[:1] = [sys.executable, str(Path(__file__).with_name("sick_server.py"))]
        self.fail(0)

    def fail(self, share: float) -> None:
        # In one step: the server may read at any time.
        fresh = self._share.with_suffix(".new")
        fresh.write_text(str(share))
        fresh.rename(self._share)


def ended(entry: dict[str, Any]) -> float:
    """When a log line was written, in seconds since the epoch."""
    return datetime.fromisoformat(entry["timestamp"]).timestamp()


def began(call: dict[str, Any]) -> float:
    return ended(call) - float(call["duration_ms"]) / 1000


def percentile(values: Iterable[float], percent: float) -> float:
    ordered: list[float] = sorted(values)
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def share_of(instance: str, picks: Sequence[dict[str, Any]]) -> float:
    return [pick["instance"] for pick in picks].count(instance) / len(picks)


async def wait_ok(client: BookClient, since: float, *, within: float = 20) -> dict[str, Any]:
    """The first call after `since` that succeeds."""

    async def probe() -> dict[str, Any]:
        calls = client.calls
        for call in calls:
            if call["outcome"] == "ok" and ended(call) > since:
                return call
        raise NotYetError(f"{len(calls)} calls, the last one: {calls[-1:]}")

    return await until(probe, within=within, what="a call that succeeds", every=0.2)
