"""Replicas and clients for the fault tests, and what their logs say."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localmesh.components import FAST, BookClient, BookServer
from localmesh.lines import logged_at
from localmesh.waiting import NotYetError, until

SHORT_LEASE = (*FAST, "--lease-ttl", "5")


class SickServer(BookServer):
    """A replica that is Ready and answers UNAVAILABLE to a share of its calls; well at first."""

    def __init__(self, run_dir: Path, *, etcd: str) -> None:
        super().__init__(run_dir, *SHORT_LEASE, etcd=etcd)
        self._share = run_dir / f"{self.name}.share"
        self._env = {"SICK_SHARE": str(self._share)}
        self.command[:1] = [sys.executable, str(Path(__file__).with_name("sick_server.py"))]
        self.fail(0)

    def fail(self, share: float) -> None:
        # In one step: the server may read at any time.
        fresh = self._share.with_suffix(".new")
        fresh.write_text(str(share))
        fresh.rename(self._share)


def began(call: dict[str, Any]) -> float:
    return logged_at(call) - float(call["duration_ms"]) / 1000


def share_of(instance: str, picks: Sequence[dict[str, Any]]) -> float:
    return [pick["instance"] for pick in picks].count(instance) / len(picks)


async def wait_ok(client: BookClient, since: float, *, within: float = 20) -> dict[str, Any]:
    """The first call after `since` that succeeds."""

    async def probe() -> dict[str, Any]:
        calls = client.calls
        for call in calls:
            if call["outcome"] == "ok" and logged_at(call) > since:
                return call
        raise NotYetError(f"{len(calls)} calls, the last one: {calls[-1:]}")

    return await until(probe, within=within, what="a call that succeeds", every=0.2)
