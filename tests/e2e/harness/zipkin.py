"""Reads traces back from a release's Zipkin, through the API server."""

import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import urllib3
from kubernetes.client.exceptions import ApiException

from localmesh.calls import Call
from localmesh.oracle import Excuse, Verdict, judge, problems
from tests.e2e.harness.cluster import Cluster

__all__ = ["ZipkinReader"]

# An id takes 33 characters of a request line, of which Zipkin's server takes 4,096.
IDS_A_REQUEST = 100


class ZipkinReader:
    """One release's Zipkin (https://zipkin.io/zipkin-api/)."""

    def __init__(self, cluster: Cluster, namespace: str, service: str) -> None:
        self._cluster = cluster
        self._path = f"/api/v1/namespaces/{namespace}/services/{service}:9411/proxy"
        self.traces: dict[str, list[dict[str, Any]]] = {}
        # The port of an endpoint of book-server where Zipkin tells none: its MySQL storage has two signed bytes for it,
        # and tells none above 32,767.
        self.port_untold: int | None = None

    def get(self, path: str, query: Mapping[str, str]) -> Any:
        """The JSON that it answers."""
        return json.loads(self._cluster.raw(self._path + path, query).data)

    def fetch(self, trace_ids: Collection[str]) -> None:
        """Read these traces, again if they are known."""
        wanted = sorted(trace_ids)
        for start in range(0, len(wanted), IDS_A_REQUEST):
            for spans in self._read(wanted[start : start + IDS_A_REQUEST]):
                if self.port_untold is not None:
                    _tell_port(spans, self.port_untold)
                self.traces[spans[0]["traceId"]] = spans

    def _read(self, trace_ids: Sequence[str]) -> list[list[dict[str, Any]]]:
        if len(trace_ids) > 1:
            many: list[list[dict[str, Any]]] = self.get("/api/v2/traceMany", {"traceIds": ",".join(trace_ids)})
            return many
        # Of a single one it wants to be asked in another way.
        try:
            return [self.get(f"/api/v2/trace/{trace_ids[0]}", {})]
        except ApiException as error:
            if error.status == 404:
                return []
            raise

    def verdict(self, calls: Sequence[Call], excuses: Sequence[Excuse] = (), *, within: float = 15.0) -> Verdict:
        """Read every call's trace, waiting for those that are not whole yet, and judge all of them.

        Args:
            calls: All calls; those that are whole are asked for once.
            excuses: See `judge`.
            within: Seconds that the last span may take to arrive.
        """
        deadline = time.monotonic() + within
        pending = [*calls]
        while pending:
            try:
                self.fetch({call.trace_id for call in pending})
            except (ApiException, urllib3.exceptions.HTTPError):
                if time.monotonic() > deadline:
                    raise
            pending = [call for call in pending if problems(call, self.traces.get(call.trace_id, ()), excuses)]
            if time.monotonic() > deadline:
                break
            if pending:
                time.sleep(0.5)
        return judge(calls, self.traces, excuses)


def _tell_port(spans: Sequence[dict[str, Any]], port: int) -> None:
    for span in spans:
        end = {"CLIENT": "remoteEndpoint", "SERVER": "localEndpoint"}.get(span.get("kind", ""))
        if end is not None and end in span:
            span[end].setdefault("port", port)
