"""The one place that knows where spans go: replace `zipkin_exporter` here, and the mesh speaks OTLP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import Tracer

from meshkit.tracing.processor import ResendingSpanProcessor
from meshkit.tracing.propagation import Propagation
from meshkit.tracing.sampling import sampler_of
from meshkit.tracing.settings import TraceSettings
from meshkit.tracing.tracer import LightTracerProvider
from meshkit.tracing.zipkin import zipkin_exporter

__all__ = ["open_tracer", "tracer_provider"]


def tracer_provider(
    service: str,
    *,
    address: str | None = None,
    zipkin: str | None = None,
    exporter: SpanExporter | None = None,
    settings: TraceSettings | None = None,
) -> TracerProvider:
    """Make a provider of tracers.

    Args:
        service: e.g. `book-server`; the local endpoint's name in Zipkin.
        address: `host:port` (or an IP address alone) of the local endpoint.
        zipkin: the collector's URL, e.g. `http://127.0.0.1:9411/api/v2/spans`; None: no trace begins here;
            that of a caller is passed on.
        exporter: instead of those of the settings: in tests, say, one that keeps spans in memory.
        settings: all that can be set, instead of `zipkin` alone; `TraceSettings().with_environment(os.environ)` is what
            OpenTelemetry's variables say. Default: B3 headers, sampled as the caller decided.

    Its `shutdown()` sends what is left, within 4 s, and blocks meanwhile; `open_tracer` sees to that.

    Raises:
        ValueError: settings that cannot be.
    """
    settings = settings or TraceSettings(zipkin=zipkin)
    sampler, parent_based = sampler_of(settings.sampler, settings.ratio)
    provider = LightTracerProvider(
        sampler,
        Resource({SERVICE_NAME: service}),
        parent_based=parent_based,
        propagation=Propagation(settings.propagators),
    )
    if settings.disabled:
        return provider
    if exporter is None and settings.zipkin is not None:
        exporter = zipkin_exporter(service, settings.zipkin, address=address)
    if exporter is not None:
        provider.add_span_processor(ResendingSpanProcessor(exporter))
    return provider


@asynccontextmanager
async def open_tracer(
    service: str,
    *,
    address: str | None = None,
    zipkin: str | None = None,
    exporter: SpanExporter | None = None,
    settings: TraceSettings | None = None,
) -> AsyncIterator[Tracer]:
    """Trace while the body runs: a tracer of a provider of its own, which sends what is left at the end.

    The parameters are those of `tracer_provider`.
    """
    provider = tracer_provider(service, address=address, zipkin=zipkin, exporter=exporter, settings=settings)
    try:
        yield provider.get_tracer("meshkit")
    finally:
        await asyncio.to_thread(provider.shutdown)
