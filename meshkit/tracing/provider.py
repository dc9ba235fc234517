"""The one place that knows where spans go: replace `zipkin_exporter` here, and the mesh speaks OTLP."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cached_property

import requests
from opentelemetry.exporter.zipkin.proto.http import ZipkinExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from meshkit.address import parse_address
from meshkit.tracing.b3 import B3RootSampler
from meshkit.tracing.encoder import SpanEncoder
from meshkit.tracing.processor import PreparingExporter, ResendingSpanProcessor, SpansRefusedError
from meshkit.tracing.span import LightTracerProvider

__all__ = ["CollectorUnavailableError", "tracer_provider", "tracing", "zipkin_exporter"]

# Seconds to connect, and to wait for the answer.
TIMEOUT = (1.0, 2.0)
TOO_MANY_REQUESTS = 429


class CollectorUnavailableError(Exception):
    """The collector answered that it cannot take spans now: 5xx or 429."""


class _ZipkinExporter(ZipkinExporter, PreparingExporter):
    """Tells a collector that is away or overloaded from one that refuses for good (raises SpansRefusedError)."""

    def __init__(self, url: str, session: requests.Session, service: str) -> None:
        super().__init__(endpoint=url, session=session)
        self.encoder = SpanEncoder()  # type: ignore[assignment]
        session.headers["Content-Type"] = SpanEncoder.content_type()
        self.local_node.service_name = service

    @cached_property
    def _encode(self) -> Callable[[ReadableSpan], bytes]:
        return SpanEncoder.for_endpoint(self.local_node)

    def prepare(self, span: ReadableSpan) -> bytes:
        return self._encode(span)

    def send(self, prepared: Sequence[bytes]) -> SpanExportResult:
        # Followed, Zipkin's redirect from its root to its web page would end with a 200, and the spans nowhere.
        answer = self.session.post(self.endpoint, data=b"".join(prepared), timeout=TIMEOUT, allow_redirects=False)
        if answer.status_code < 300:
            return SpanExportResult.SUCCESS
        reason = f"{self.endpoint} answered {answer.status_code} {answer.reason}".rstrip()
        if answer.status_code >= 500 or answer.status_code == TOO_MANY_REQUESTS:
            raise CollectorUnavailableError(reason)
        raise SpansRefusedError(reason)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # type: ignore[override]
        return self.send([self.prepare(span) for span in spans])


def tracer_provider(
    service: str, *, address: str | None = None, zipkin: str | None = None, exporter: SpanExporter | None = None
) -> TracerProvider:
    """Make a provider whose spans carry B3 context, sampled as the caller decided.

    Parameters:
        service: e.g. `book-server`; the local endpoint's name in Zipkin.
        address: `host:port` (or an IP address alone) of the local endpoint.
        zipkin: the collector's URL, e.g. `http://127.0.0.1:9411/api/v2/spans`; None: contexts are made and
            propagated, nothing is recorded.
        exporter: instead of Zipkin's, e.g. an OTLP exporter or, in tests, one that keeps spans in memory.

    Its `shutdown()` sends what is left, within 4 s, and blocks meanwhile; `tracing` sees to that.
    """
    provider = LightTracerProvider(B3RootSampler(), Resource({SERVICE_NAME: service}))
    if exporter is None and zipkin is not None:
        exporter = zipkin_exporter(service, zipkin, address=address)
    if exporter is not None:
        provider.add_span_processor(ResendingSpanProcessor(exporter))
    return provider


@asynccontextmanager
async def tracing(
    service: str, *, address: str | None = None, zipkin: str | None = None, exporter: SpanExporter | None = None
) -> AsyncIterator[Tracer]:
    """Trace while the body runs: a tracer of a provider of its own, which sends what is left at the end.

    See `tracer_provider` for the parameters.
    """
    provider = tracer_provider(service, address=address, zipkin=zipkin, exporter=exporter)
    try:
        yield provider.get_tracer("meshkit")
    finally:
        await asyncio.to_thread(provider.shutdown)


def zipkin_exporter(service: str, url: str, *, address: str | None = None) -> SpanExporter:
    """The package's exporter with the encoder of meshkit; see `tracer_provider` for the parameters."""
    exporter = _ZipkinExporter(url, requests.Session(), service)
    node = exporter.local_node
    if address is not None:
        host, port = parse_address(address) if _has_port(address) else (address, None)
        with suppress(ValueError):  # a host name: Zipkin's endpoints have no place for one
            if ipaddress.ip_address(host).version == 4:
                node.ipv4 = host
            else:
                node.ipv6 = host
        node.port = port
    return exporter


def _has_port(address: str) -> bool:
    return address.startswith("[") or address.count(":") == 1
