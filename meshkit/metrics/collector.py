"""The figures as Prometheus's metrics, made when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from meshkit.clock import unix_time
from meshkit.metrics.calls import ClientMetrics, MethodCalls
from meshkit.metrics.histogram import PUBLISHED, Histogram
from meshkit.metrics.sources import ClientSources, Sources
from meshkit.metrics.table import METRICS

__all__ = ["MeshCollector", "exposition", "registry_of"]

STATES = ("connecting", "ready", "ejected", "probation", "leaving")
BREAKER_STATES = ("closed", "open", "half-open")
# The bounds that proposal A96 recommends.
RETRIES = (1, 2, 3, 4, 5)
_FAMILIES = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
_LE = (*map(str, PUBLISHED), "+Inf")

# Name of the metric, values of its labels, its value; histograms have buckets and a sum.
Reading = tuple[str, tuple[str, ...], Any]


class MeshCollector(Collector):
    """A collector of prometheus_client over what a program has.

    It is to be asked in the thread of the event loop: the figures change there.

    Args:
        sources: what there is to tell.
    """

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def describe(self) -> Iterable[Family]:
        """Nothing: the names are known, and need not be collected to learn them (prometheus_client)."""
        return ()

    def collect(self) -> Iterable[Family]:
        """All metrics that have a value (prometheus_client.registry.Collector)."""
        families: dict[str, Any] = {
            metric.name: _FAMILIES[metric.type](metric.name, metric.help, labels=metric.labels) for metric in METRICS
        }
        for name, labels, value in self._readings():
            if isinstance(value, tuple):
                families[name].add_metric(labels, *value)
            else:
                families[name].add_metric(labels, value)
        return [family for family in families.values() if family.samples]

    def _readings(self) -> Iterator[Reading]:
        sources = self._sources
        yield "meshkit_build_info", (sources.program, sources.version), 1
        for client in sources.clients:
            yield from _of_client(client)
        if sources.server is not None:
            for calls in sources.server.calls.values():
                yield "grpc_server_call_started", (calls.method,), calls.started
                yield from _durations("grpc_server_call_duration_seconds", calls)
        if sources.limiter is not None:
            yield "meshkit_limiter_waiting", (), sources.limiter.waiting
            yield "meshkit_limiter_delayed", (), sources.limiter.delayed
            yield "meshkit_limiter_refused", (), sources.limiter.refused
        if sources.registration is not None:
            yield "meshkit_registered", (), int(sources.registration.registered)
            yield "meshkit_lease_renewals", (), sources.registration.renewals
        if sources.etcd is not None:
            yield "meshkit_etcd_away_seconds", (), _seconds_since(sources.etcd.away_since)
        yield from _of_spans(sources)


def registry_of(sources: Sources) -> CollectorRegistry:
    """A registry of prometheus_client with a program's metrics, and those of its process (`process_...`)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MeshCollector(sources))
    ProcessCollector(registry=registry)
    return registry


def exposition(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """The metrics as text, and its media type: OpenMetrics, with exemplars, where `accept` (of HTTP) asks for it."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _of_client(client: ClientSources) -> Iterator[Reading]:
    target = (client.metrics.target,)
    yield from _of_calls(client.metrics)
    connections = client.metrics.connections
    yield "grpc_subchannel_connection_attempts_succeeded", target, connections.succeeded
    yield "grpc_subchannel_connection_attempts_failed", target, connections.failed
    yield "grpc_subchannel_disconnections", target, connections.lost
    yield "grpc_subchannel_open_connections", target, connections.open
    for method, times in client.endpoints.ejections.items():
        yield "grpc_lb_outlier_detection_ejections_enforced", (*target, method), times
    yield from _of_instances(client)
    if client.discovery is not None:
        yield "meshkit_instances_stale", target, int(client.discovery.stale)
        yield "meshkit_etcd_listings", target, client.discovery.listings
    if client.budget is not None:
        yield "meshkit_retry_budget_tokens", target, client.budget.tokens
        yield "meshkit_retry_budget_reserve", target, client.budget.reserve
    if client.breaker is not None:
        for state in BREAKER_STATES:
            yield "meshkit_breaker_state", (client.breaker.name, state), int(client.breaker.current_state == state)


def _of_calls(metrics: ClientMetrics) -> Iterator[Reading]:
    target = metrics.target
    for attempts in metrics.attempts():
        yield "grpc_client_attempt_started", (attempts.method, target), attempts.started
        yield from _durations("grpc_client_attempt_duration_seconds", attempts, target)
    for calls in metrics.calls.values():
        yield from _durations("grpc_client_call_duration_seconds", calls, target)
        if calls.retries:
            yield "grpc_client_call_retries", (calls.method, target), _retries(calls.retries)
    for instance, methods in metrics.instances.items():
        by_code: Counter[str] = Counter()
        for attempts in methods.values():
            by_code.update({code.name: histogram.count for code, histogram in attempts.by_code.items()})
        for code, ended in by_code.items():
            yield "meshkit_instance_attempts", (target, instance, code), ended


def _of_instances(client: ClientSources) -> Iterator[Reading]:
    target, endpoints, leaving = client.metrics.target, client.endpoints.endpoints, client.endpoints.leaving
    states = Counter(endpoint.state for endpoint in endpoints)
    # Their endpoints are still to be made.
    states["connecting"] += len(client.endpoints.known) - len(endpoints)
    states["leaving"] = len({endpoint.instance for endpoint in leaving})
    for state in STATES:
        yield "meshkit_instances", (target, state), states[state]
    in_flight: Counter[str] = Counter()
    for endpoint in (*endpoints, *leaving):
        in_flight[endpoint.instance] += endpoint.in_flight
    for instance, calls in in_flight.items():
        yield "meshkit_instance_in_flight", (target, instance), calls


def _of_spans(sources: Sources) -> Iterator[Reading]:
    if not sources.spans:
        return
    counts = [processor.counts for processor in sources.spans]
    yield "meshkit_spans_ended", (), sum(each.ended for each in counts)
    yield "meshkit_spans_sent", (), sum(each.sent for each in counts)
    yield "meshkit_spans_dropped", (), sum(each.dropped for each in counts)
    yield "meshkit_spans_queued", (), sum(each.queued for each in counts)
    yield "meshkit_collector_away_seconds", (), max(_seconds_since(each.away_since) for each in sources.spans)


def _durations(name: str, calls: MethodCalls, *target: str) -> Iterator[Reading]:
    for code, histogram in calls.by_code.items():
        yield name, (calls.method, *target, code.name), (_buckets(histogram), histogram.sum)


def _buckets(histogram: Histogram) -> list[tuple[Any, ...]]:
    """Each with its bound and its count; the one that the exemplar falls into has that, too."""
    exemplar = histogram.exemplar
    buckets: list[tuple[Any, ...]] = []
    for bound, (limit, count) in zip(_LE, histogram.buckets(), strict=True):
        if exemplar is not None and exemplar.value <= limit:
            labelled = Exemplar({"trace_id": exemplar.trace_id}, exemplar.value, exemplar.timestamp)
            buckets.append((bound, count, labelled))
            exemplar = None
        else:
            buckets.append((bound, count))
    return buckets


def _retries(retries: Mapping[int, int]) -> tuple[list[tuple[str, int]], int]:
    buckets = [(str(float(up_to)), sum(n for times, n in retries.items() if times <= up_to)) for up_to in RETRIES]
    total = sum(times * calls for times, calls in retries.items())
    return [*buckets, ("+Inf", sum(retries.values()))], total


def _seconds_since(since: float | None) -> float:
    return 0.0 if since is None else max(0.0, unix_time() - since)
