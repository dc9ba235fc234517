"""Tracing: OpenTelemetry spans, B3 context over gRPC, Zipkin as their store."""

from __future__ import annotations

from meshkit.tracing.b3 import B3Propagator, b3_sampler
from meshkit.tracing.client import TracedChannel, TracingClientInterceptor
from meshkit.tracing.encoder import SpanEncoder
from meshkit.tracing.processor import PreparingExporter, ResendingSpanProcessor, SpanCounts, SpansRefusedError
from meshkit.tracing.provider import tracer_provider, tracing, zipkin_exporter
from meshkit.tracing.server import TracingServerInterceptor
from meshkit.tracing.spans import root_span, trace_id_of

__all__ = [
    "B3Propagator",
    "PreparingExporter",
    "ResendingSpanProcessor",
    "SpanCounts",
    "SpanEncoder",
    "SpansRefusedError",
    "TracedChannel",
    "TracingClientInterceptor",
    "TracingServerInterceptor",
    "b3_sampler",
    "root_span",
    "trace_id_of",
    "tracer_provider",
    "tracing",
    "zipkin_exporter",
]
