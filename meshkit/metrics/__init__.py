"""What a program counts of its calls, and tells of itself; and its form for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshkit.metrics.calls import ClientMetrics, MethodCalls, ServerMetrics
from meshkit.metrics.histogram import BOUNDS, Histogram, quantile
from meshkit.metrics.sources import ClientSources, Sources

if TYPE_CHECKING:
    from meshkit.metrics.collector import MeshCollector, registry_of

__all__ = [
    "BOUNDS",
    "ClientMetrics",
    "ClientSources",
    "Histogram",
    "MeshCollector",
    "MethodCalls",
    "ServerMetrics",
    "Sources",
    "quantile",
    "registry_of",
]


def __getattr__(name: str) -> object:
    # prometheus_client is imported where it is used: calls are made and counted without it.
    if name in {"MeshCollector", "registry_of"}:
        from meshkit.metrics import collector  # noqa: PLC0415

        return getattr(collector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
