"""Prometheus on the metrics of both programs: what it makes of them, and whether they are what has happened."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localmesh.components import FAST, ROOT, TOOLS, BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.http import request
from localmesh.ports import free_port
from localmesh.process import Process
from localmesh.waiting import NotYetError, until
from tests.interop.prometheus import PrometheusServer

DASHBOARD = ROOT / "deploy/helm/bookmesh/files/dashboard.json"
CONCURRENCY = 4
# The attempts that hang at the end have to outlast the test.
CLIENT = ("--calls", "0", "--interval", "20ms", "--concurrency", str(CONCURRENCY), "--breaker-volume", "1000000")
PATIENT = ("--timeout", "600s", "--breaker-timeout", "600s")
# With a limiter, that never says no: it has metrics, too.
SERVER = (*FAST, "--rate", "1000000", "--burst", "1000000", "--faults")


@dataclass
class Ledger:
    """What the client's own log says of its calls."""

    calls: Counter[str]
    retried: int
    retries: int
    picks: int
    ejections: int

    @classmethod
    def of(cls, entries: Sequence[dict[str, Any]]) -> Ledger:
        by_event: dict[str, list[dict[str, Any]]] = {}
        for entry in entries:
            by_event.setdefault(entry["event"], []).append(entry)
        calls, picks = by_event.get("call", []), by_event.get("picked", [])
        extra = [call["attempts"] - 1 for call in calls if call["attempts"] > 1]
        return cls(
            calls=Counter("OK" if call["outcome"] == "ok" else call["outcome"] for call in calls),
            retried=len(extra),
            retries=sum(extra),
            picks=len(picks),
            ejections=len(by_event.get("instance ejected", [])),
        )


class Mesh:
    """Three replicas that fail on demand, and a client that calls them for ever, each with an admin port."""

    def __init__(self, run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer) -> None:
        self._run_dir, self._etcd = run_dir, etcd
        self.ports = [f"127.0.0.1:{free_port()}" for _ in range(4)]
        self.admin, *of_servers = self.ports
        where: dict[str, Any] = {"etcd": etcd.address, "zipkin": zipkin.collector}
        self.servers = [BookServer(run_dir, *SERVER, "--admin", port, **where) for port in of_servers]
        self.client = BookClient(run_dir, *CLIENT, *PATIENT, "--admin", self.admin, **where)

    async def faults(self, *arguments: str) -> None:
        """What `book-client faults` does."""
        command = [*self.client.command[:1], "--etcd", self._etcd.address, "faults", *arguments]
        async with Process("faults", command, run_dir=self._run_dir) as process:
            assert await process.wait() == 0, process.last_words()

    async def run(self, stack: AsyncExitStack) -> PrometheusServer:
        """Start all of it, and Prometheus."""
        for server in self.servers:
            await stack.enter_async_context(server)
        await stack.enter_async_context(self.client)
        targets = {"book-client": [self.admin], "book-server": self.ports[1:]}
        prometheus = await stack.enter_async_context(PrometheusServer(self._run_dir, targets))
        await self.client.wait_event("call", count=200)
        return prometheus

    async def hold(self) -> Ledger:
        """Have every call hang, so that nothing changes any more; what the client has logged until then."""
        await self.faults("set", "--hang")

        async def probe() -> Ledger:
            before = self.client.events()
            ledger = Ledger.of(before)
            under_way = ledger.picks - ledger.retries - ledger.calls.total()
            if under_way != CONCURRENCY or len(self.client.events()) != len(before):
                raise NotYetError(ledger)
            return ledger

        return await until(probe, within=30, what=f"{CONCURRENCY} calls under way")


async def test_prometheus_has_what_the_clients_log_tells_and_all_that_the_dashboard_asks_for(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    mesh = Mesh(run_dir, etcd, zipkin)
    async with AsyncExitStack() as stack:
        prometheus = await mesh.run(stack)
        sick = mesh.servers[0]
        await mesh.faults("set", "--status", "UNAVAILABLE", "--instance", sick.address)
        await mesh.client.wait_event("instance ejected")
        await mesh.faults("clear")
        await mesh.client.wait_event("instance back")
        # An answer about the request: not made again, and a failed call.
        await mesh.faults("set", "--status", "INVALID_ARGUMENT", "--percent", "20")
        await until(failed(mesh.client, 5), within=30, what="5 failed calls")
        ledger = await mesh.hold()
        assert set(ledger.calls) == {"OK", "INVALID_ARGUMENT"}

        async def probe() -> None:
            counted = await counts(prometheus)
            if counted != ledger:
                raise NotYetError(f"Prometheus has {counted}, the log has {ledger}")

        await until(probe, within=20, what="Prometheus has what the log has")
        assert await prometheus.by("job", "up") == {"book-client": 1, "book-server": 3}
        await each_attempt_reached_a_server(prometheus, ledger)
        await exemplars_are_in_zipkin(prometheus, zipkin)
        documented = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
        names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in await prometheus.names()}
        assert documented - names == set()
        for query in dashboard_queries():
            values = [value for _, value in await prometheus.query(query)]
            assert values, f"no data for {query}"
            assert not any(map(math.isnan, values)), f"{values} for {query}"
        for port in mesh.ports:
            await promtool_is_content(run_dir, port)


def dashboard_queries() -> Iterator[str]:
    """What the chart's dashboard for Grafana asks, over the last minute and all jobs."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*")
            assert "$__" not in query, query
            yield query


def failed(client: BookClient, count: int) -> Any:
    """For `until`: so many of the client's calls have failed."""

    async def probe() -> None:
        found = sum(call["outcome"] != "ok" for call in client.calls)
        if found < count:
            raise NotYetError(found)

    return probe


async def counts(prometheus: PrometheusServer) -> Ledger:
    """The ledger by the client's metrics."""
    conversations = '{job="book-client",grpc_method="conversation"}'
    return Ledger(
        calls=whole(await prometheus.by("grpc_status", f"grpc_client_call_duration_seconds_count{conversations}")),
        retried=int(await prometheus.total(f"grpc_client_call_retries_count{conversations}")),
        retries=int(await prometheus.total(f"grpc_client_call_retries_sum{conversations}")),
        picks=int(await prometheus.total('grpc_client_attempt_started_total{grpc_method="BookService/GetBookInfo"}')),
        ejections=int(await prometheus.total("grpc_lb_outlier_detection_ejections_enforced_total")),
    )


def whole(values: dict[str, float]) -> Counter[str]:
    return Counter({key: int(value) for key, value in values.items()})


async def each_attempt_reached_a_server(prometheus: PrometheusServer, ledger: Ledger) -> None:
    """Both sides have counted the same calls, with the same statuses; one may have been scraped before the other."""
    unavailable = 'grpc_client_attempt_duration_seconds_count{grpc_status="UNAVAILABLE"}'
    assert await prometheus.total(unavailable) == ledger.retries

    async def by_side(side: str) -> dict[str, dict[str, float]]:
        found = {"started": await prometheus.by("grpc_method", f"grpc_{side}_started_total")}
        for method in found["started"]:
            ended = f'grpc_{side}_duration_seconds_count{{grpc_method="{method}"}}'
            found[method] = await prometheus.by("grpc_status", ended)
        return found

    async def probe() -> None:
        client, servers = await by_side("client_attempt"), await by_side("server_call")
        if client != servers:
            raise NotYetError(f"the client's {client}, the servers' {servers}")

    await until(probe, within=20, what="both sides have counted the same")


async def exemplars_are_in_zipkin(prometheus: PrometheusServer, zipkin: ZipkinServer) -> None:
    """Histograms of both programs have exemplars, each of a trace that can be looked at."""
    for name in ("grpc_client_call", "grpc_client_attempt", "grpc_server_call"):
        exemplars = await prometheus.exemplars(f"{name}_duration_seconds_bucket")
        ids = {exemplar["labels"]["trace_id"] for exemplar in exemplars}
        assert ids, f"no exemplars of {name}"
        for trace_id in sorted(ids)[:50]:
            await zipkin.wait_trace(trace_id, 1)


async def promtool_is_content(run_dir: Path, address: str) -> None:
    """`promtool check metrics` finds nothing to blame on the page."""
    status, page = await request(f"http://{address}/metrics")
    assert status == 200
    file = run_dir / "metrics.txt"
    file.write_bytes(page)
    check = Process("promtool", ["sh", "-c", f"{TOOLS}/bin/promtool check metrics < {file}"], run_dir=run_dir)
    async with check:
        assert (await check.wait(), check.output()) == (0, ""), check.output()
