"""Jaeger as a child process, and its spans in the form that the oracle of Zipkin's traces reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from localmesh.components import TOOLS
from localmesh.http import answers, request
from localmesh.ports import free_port
from localmesh.process import Process

__all__ = ["JaegerServer", "as_of_zipkin"]

LOOPBACK = "127.0.0.1"
WITHIN = 60.0
# OTLP's numbers of the kinds that Zipkin has, too.
KINDS = {2: "SERVER", 3: "CLIENT", "SPAN_KIND_SERVER": "SERVER", "SPAN_KIND_CLIENT": "CLIENT"}
ERROR = {2, "STATUS_CODE_ERROR"}


class JaegerServer:
    """Jaeger with its store in memory, on free ports (its own configuration takes twelve fixed ones).

    Args:
        run_dir: For its log and its configuration.
    """

    def __init__(self, run_dir: Path) -> None:
        self.otlp = f"http://{LOOPBACK}:{free_port()}"
        self.url = f"http://{LOOPBACK}:{free_port()}"
        self._health = f"{LOOPBACK}:{free_port()}"
        self._config = run_dir / "jaeger.json"
        self.process = Process(
            "jaeger", [TOOLS / "bin/jaeger", "--config", self._config], run_dir=run_dir, env={"GOMEMLIMIT": "512MiB"}
        )

    async def start(self) -> None:
        """Start it and wait until it serves."""
        # JSON is YAML, too.
        self._config.write_text(json.dumps(self._configuration()))
        await self.process.start(answers(f"http://{self._health}/status"), within=WITHIN)

    def _configuration(self) -> dict[str, Any]:
        memory = {"memory": {"max_traces": 10_000}}
        ports = {"http": {"endpoint": _port(self.url)}, "grpc": {"endpoint": f"{LOOPBACK}:{free_port()}"}}
        return {
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
            },
            "extensions": {
                "jaeger_storage": {"backends": {"memory": memory}},
                "jaeger_query": {"storage": {"traces": "memory"}, **ports},
                "healthcheckv2": {"use_v2": True, "http": {"endpoint": self._health}},
            },
            "receivers": {"otlp": {"protocols": {"http": {"endpoint": _port(self.otlp)}}}},
            "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        }

    async def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of one trace, as `as_of_zipkin` gives them; [] while it has none."""
        status, answer = await request(f"{self.url}/api/v3/traces/{trace_id}", timeout=10)
        if status == 404:
            return []
        assert status == 200, f"{self.url} answered {status}: {answer[:200]!r}"
        return list(as_of_zipkin(json.loads(answer)["result"]["resourceSpans"]))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.stop()


def as_of_zipkin(resource_spans: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """OTLP's spans in Zipkin's form; a program's address is its `service.instance.id`, `host:port` or a host alone."""
    for resource in resource_spans:
        told = _tags(resource["resource"])
        endpoint = {"serviceName": told["service.name"], **_endpoint(told["service.instance.id"])}
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                yield _span(span, endpoint)


def _span(span: Mapping[str, Any], endpoint: Mapping[str, Any]) -> dict[str, Any]:
    tags, status = _tags(span), span.get("status", {})
    start, end = (int(span[name]) // 1000 for name in ("startTimeUnixNano", "endTimeUnixNano"))
    if status.get("code") in ERROR:
        tags["error"] = status.get("message", "true")
    found: dict[str, Any] = {
        "traceId": span["traceId"],
        "id": span["spanId"],
        "name": span["name"].lower(),
        "timestamp": start,
        "duration": end - start,
        "localEndpoint": endpoint,
        "tags": tags,
    }
    if span.get("parentSpanId"):
        found["parentId"] = span["parentSpanId"]
    if kind := KINDS.get(span["kind"]):
        found["kind"] = kind
    if kind == "CLIENT":
        found["remoteEndpoint"] = {"ipv4": tags["server.address"], "port": int(tags["server.port"])}
    return found


def _tags(holder: Mapping[str, Any]) -> dict[str, str]:
    return {each["key"]: str(next(iter(each["value"].values()))) for each in holder.get("attributes", ())}


def _endpoint(address: str) -> dict[str, Any]:
    host, _, port = address.partition(":")
    return {"ipv4": host, **({"port": int(port)} if port else {})}


def _port(url: str) -> str:
    return url.removeprefix("http://")
