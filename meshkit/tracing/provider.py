"""The one place that knows where spans go: replace `zipkin_exporter` here, and the mesh speaks OTLP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import Tracer

from meshkit.tracing.b3 import B3RootSampler
from meshkit.tracing.processor import ResendingSpanProcessor
from meshkit.tracing.tracer import LightTracerProvider
from meshkit.tracing.zipkin import zipkin_exporter

__all__ = ["open_tracer", "tracer_provider"]


def tracer_provider(
    service: str, *, address: str | None = None, zipkin: str | None = None, exporter: SpanExporter | None = None
) -> TracerProvider:
    """Make a provider whose spans carry B3 context, sampled as the caller decided.

    Args:
        service: e.g. `book-server`; the local endpoint's name in Zipkin.
        address: `host:port` (or an IP address alone) of the local endpoint.
        zipkin: the collector's URL, e.g. `http://127.0.0.1:9411/api/v2/spans`; None: no trace begins here;
            that of a caller is passed on.
        exporter: instead of Zipkin's, e.g. an OTLP exporter or, in tests, one that keeps spans in memory.

    Its `shutdown()` sends what is left, within 4 s, and blocks meanwhile; `open_tracer` sees to that.
    """
    provider = LightTracerProvider(B3RootSampler(), Resource({SERVICE_NAME: service}))
    if exporter is None and zipkin is not None:
        exporter = zipkin_exporter(service, zipkin, address=address)
    if exporter is not None:
        provider.add_span_processor(ResendingSpanProcessor(exporter))
    return provider


@asynccontextmanager
async def open_tracer(
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
