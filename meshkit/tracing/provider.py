"""The one place that knows where spans go: to Zipkin, by OTLP, to both, or nowhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import structlog
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import Tracer

from meshkit.tracing.collector import TlsFiles
from meshkit.tracing.otlp import OtlpExporter
from meshkit.tracing.processor import ResendingSpanProcessor
from meshkit.tracing.propagation import Propagation
from meshkit.tracing.resource import SERVICE_NAME, resource_of, tags_of
from meshkit.tracing.sampling import sampler_of
from meshkit.tracing.settings import TraceSettings
from meshkit.tracing.tracer import LightTracerProvider

__all__ = ["open_tracer", "tracer_provider"]

log = structlog.stdlib.get_logger(__name__)

ZIPKIN_PACKAGE = "opentelemetry-exporter-zipkin-proto-http"


def tracer_provider(
    service: str,
    *,
    address: str | None = None,
    zipkin: str | None = None,
    exporter: SpanExporter | None = None,
    settings: TraceSettings | None = None,
    version: str | None = None,
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
        version: the program's, for the resource. Default: not told.

    Its `shutdown()` sends what is left, within 4 s, and blocks meanwhile; `open_tracer` sees to that.

    Raises:
        ValueError: settings that cannot be.
        OSError: the files of TLS cannot be used.
    """
    settings = settings or TraceSettings(zipkin=zipkin)
    sampler, parent_based = sampler_of(settings.sampler, settings.ratio)
    provider = LightTracerProvider(
        sampler,
        resource_of(service, version=version, name=settings.service, attributes=settings.resource),
        parent_based=parent_based,
        propagation=Propagation(settings.propagators),
        conventions=settings.conventions,
    )
    if settings.disabled:
        return provider
    for each in [exporter] if exporter is not None else _exporters(settings, provider.resource, address):
        provider.add_span_processor(ResendingSpanProcessor(each))
    return provider


def _exporters(settings: TraceSettings, resource: Resource, address: str | None) -> Iterator[SpanExporter]:
    if "zipkin" in settings.exporters and settings.zipkin is not None:
        try:
            # Its package is going out of use; whoever sends by OTLP needs none of it.
            from meshkit.tracing.zipkin import zipkin_exporter  # noqa: PLC0415
        except ModuleNotFoundError as error:
            log.warning("spans are not sent to Zipkin", reason=str(error), mend=f"install {ZIPKIN_PACKAGE}")
        else:
            service = str(resource.attributes[SERVICE_NAME])
            yield zipkin_exporter(
                service,
                settings.zipkin,
                address=address,
                timeout=settings.zipkin_timeout,
                root_tags=tags_of(resource),
            )
    if "otlp" in settings.exporters:
        yield OtlpExporter(
            settings.otlp,
            resource,
            headers=settings.otlp_headers,
            timeout=settings.otlp_timeout,
            compress=settings.otlp_gzip,
            tls=TlsFiles(settings.otlp_ca, settings.otlp_cert, settings.otlp_key),
        )


@asynccontextmanager
async def open_tracer(
    service: str,
    *,
    address: str | None = None,
    zipkin: str | None = None,
    exporter: SpanExporter | None = None,
    settings: TraceSettings | None = None,
    version: str | None = None,
) -> AsyncIterator[Tracer]:
    """Trace while the body runs: a tracer of a provider of its own, which sends what is left at the end.

    The parameters are those of `tracer_provider`.
    """
    provider = tracer_provider(
        service, address=address, zipkin=zipkin, exporter=exporter, settings=settings, version=version
    )
    try:
        yield provider.get_tracer("meshkit")
    finally:
        await asyncio.to_thread(provider.shutdown)
