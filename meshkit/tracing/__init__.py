"""Spans without gRPC's hooks: OpenTelemetry's interfaces, B3 and Zipkin by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshkit.tracing.b3 import B3Propagator, b3_sampler
from meshkit.tracing.otlp import OtlpExporter
from meshkit.tracing.processor import PreparingExporter, ResendingSpanProcessor, SpanCounts, span_processors_of
from meshkit.tracing.propagation import PROPAGATORS, Propagation
from meshkit.tracing.provider import open_tracer, tracer_provider
from meshkit.tracing.root import root_span, trace_id_of
from meshkit.tracing.sampling import SAMPLERS
from meshkit.tracing.settings import TraceSettings

if TYPE_CHECKING:
    from meshkit.tracing.zipkin import SpanEncoder, zipkin_exporter

__all__ = [
    "PROPAGATORS",
    "SAMPLERS",
    "B3Propagator",
    "OtlpExporter",
    "PreparingExporter",
    "Propagation",
    "ResendingSpanProcessor",
    "SpanCounts",
    "SpanEncoder",
    "TraceSettings",
    "b3_sampler",
    "open_tracer",
    "root_span",
    "span_processors_of",
    "trace_id_of",
    "tracer_provider",
    "zipkin_exporter",
]


def __getattr__(name: str) -> object:
    # What needs the Zipkin exporter's package is imported where it is used: a program runs without it.
    if name in {"SpanEncoder", "zipkin_exporter"}:
        from meshkit.tracing import zipkin  # noqa: PLC0415

        return getattr(zipkin, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
