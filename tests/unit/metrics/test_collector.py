"""What is scraped: the table is all of it, and exact; and instances that come and go leave nothing behind."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families as parsed

from meshkit import DelayingLimiter, Endpointer, HystrixBreaker, Instancer, Registrar, TokenBucket
from meshkit.client import RetryBudget
from meshkit.metrics import ClientMetrics, ClientSources, MeshCollector, ServerMetrics, Sources, registry_of
from meshkit.metrics.table import METRICS, as_markdown
from meshkit.testing import FixedInstances, MemoryEtcd, MemorySpans
from meshkit.tracing import span_processors_of, trace_id_of, tracer_provider
from tests.support.fake_time import fake_time
from tests.support.fakes import rpc_error

ROOT = Path(__file__).parents[3]
TARGET = "etcd:///services/book/"
METHOD = "BookService/GetBookInfo"


class NoEtcd(MemoryEtcd):
    away_since = 1.0


@asynccontextmanager
async def sick(_: str) -> AsyncIterator[Any]:
    async def endpoint(_: Any) -> None:
        raise rpc_error(grpc.StatusCode.UNAVAILABLE)

    yield endpoint


@asynccontextmanager
async def everything() -> AsyncIterator[Sources]:
    """A program that is client and server, and has had all that can be told."""
    etcd, metrics, server = NoEtcd(), ClientMetrics(TARGET), ServerMetrics()
    provider = tracer_provider("test", exporter=InMemorySpanExporter())
    async with (
        Registrar(etcd, "/services/book/", "a:1") as registrar,
        Instancer(etcd, "/services/book/") as instancer,
        Endpointer(instancer, sick) as endpointer,
        contextlib.AsyncExitStack() as stack,
    ):
        await registrar.wait_registered()
        await endpointer.wait_endpoints()
        (endpoint,) = endpointer.endpoints
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await endpoint(None)
        stack.enter_context(metrics.following("a:1"))
        for counts in (metrics.attempts_at("a:1", METHOD), metrics.calls_of(METHOD), server.calls_of(METHOD)):
            counts.end(grpc.StatusCode.OK, counts.begin())
        metrics.calls_of(METHOD).retried(2)
        yield Sources(
            "test",
            "1.2.3",
            clients=[
                ClientSources(
                    metrics=metrics,
                    endpoints=endpointer,
                    discovery=instancer,
                    budget=RetryBudget(),
                    breaker=HystrixBreaker("books"),
                )
            ],
            server=server,
            limiter=DelayingLimiter(TokenBucket(1)),
            registration=registrar,
            etcd=etcd,
            spans=span_processors_of(provider.get_tracer("test")),
        )
    provider.shutdown()


@fake_time
async def test_the_table_is_what_is_scraped_and_nothing_else() -> None:
    async with everything() as sources:
        scraped = {
            family.name: family
            for family in parsed(generate_latest(registry_of(sources)).decode())
            if not family.name.startswith("process_")
        }
    in_text = {re.sub("_total$", "", name) if family.type == "counter" else name for name, family in scraped.items()}
    assert in_text == {metric.name for metric in METRICS}
    for metric in METRICS:
        family = scraped[metric.name]
        assert (family.type, family.documentation) == (metric.type, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), metric.name


@fake_time
async def test_the_values_are_those_of_what_is_told() -> None:
    async with everything() as sources:
        registry = registry_of(sources)

        def value(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(name, labels)

        target = {"grpc_target": TARGET}
        assert value("meshkit_instances", state="ejected", **target) == 1
        assert value("meshkit_instances", state="ready", **target) == 0
        detection = {"grpc_lb_outlier_detection_detection_method": "consecutive_failures"}
        assert value("grpc_lb_outlier_detection_ejections_enforced_total", **detection, **target) == 1
        ok = {"grpc_method": METHOD, "grpc_status": "OK"}
        assert value("grpc_client_attempt_duration_seconds_count", **ok, **target) == 1
        assert value("grpc_client_call_duration_seconds_bucket", le="0.005", **ok, **target) is not None
        assert value("grpc_server_call_duration_seconds_bucket", le="+Inf", **ok) == 1
        assert value("grpc_client_call_retries_bucket", le="1.0", grpc_method=METHOD, **target) == 0
        assert value("grpc_client_call_retries_bucket", le="2.0", grpc_method=METHOD, **target) == 1
        assert value("grpc_client_call_retries_sum", grpc_method=METHOD, **target) == 2
        assert value("meshkit_breaker_state", breaker="books", state="closed") == 1
        assert value("meshkit_retry_budget_tokens", **target) == 1000
        assert value("meshkit_registered") == 1
        assert (value("meshkit_etcd_away_seconds") or 0) > 1e9
        assert value("meshkit_build_info", program="test", version="1.2.3") == 1


@fake_time
async def test_openmetrics_has_exemplars_whose_trace_was_recorded() -> None:
    metrics, spans = ServerMetrics(), MemorySpans()
    span = spans.tracer.start_span("call")
    calls = metrics.calls_of(METHOD)
    calls.end(grpc.StatusCode.OK, calls.begin(), span)
    generate, parse = cast("Any", exposition.generate_latest), cast("Any", parser.text_string_to_metric_families)
    text = generate(registry_of(Sources("test", server=metrics))).decode()
    families = {family.name: family for family in parse(text)}
    exemplars = [s.exemplar for s in families["grpc_server_call_duration_seconds"].samples if s.exemplar]
    assert [exemplar.labels for exemplar in exemplars] == [{"trace_id": trace_id_of(span)}]


@fake_time
async def test_ten_thousand_changes_of_instances_leave_the_number_of_series_where_it_was() -> None:
    metrics, instances = ClientMetrics(TARGET), FixedInstances("kept:1", "old:1")

    @asynccontextmanager
    async def connect(instance: str) -> AsyncIterator[Any]:
        async def endpoint(_: Any) -> None:
            attempts = metrics.attempts_at(instance, METHOD)
            attempts.end(grpc.StatusCode.OK, attempts.begin())

        with metrics.following(instance):
            yield endpoint

    async with Endpointer(instances, connect) as endpointer:
        collector = MeshCollector(Sources("test", clients=[ClientSources(metrics=metrics, endpoints=endpointer)]))

        async def call_all() -> None:
            await settled()
            for endpoint in endpointer.endpoints:
                await endpoint(None)

        def series() -> int:
            return sum(len(family.samples) for family in collector.collect())

        await call_all()
        before = series()
        for number in range(5_000):
            instances.change("kept:1", f"new{number}:1")
            await call_all()
        assert series() == before
        (attempts,) = metrics.attempts()
        assert attempts.by_code[grpc.StatusCode.OK].count == attempts.started == 10_002


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_scrape_of_fifty_instances_is_short() -> None:
    metrics = ClientMetrics(TARGET)
    with contextlib.ExitStack() as stack:
        for number in range(50):
            instance = f"10.11.12.{number}:50051"
            stack.enter_context(metrics.following(instance))
            for method in (METHOD, "BookService/GetBookList"):
                for code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE):
                    attempts = metrics.attempts_at(instance, method)
                    attempts.end(code, attempts.begin())
        sources = Sources("test", clients=[ClientSources(metrics=metrics, endpoints=NoInstances())])
        assert len(generate_latest(registry_of(sources))) < 100_000


class NoInstances:
    ejections: dict[str, int] = {}  # noqa: RUF012
    known: tuple[str, ...] = ()
    endpoints: tuple[Any, ...] = ()
    leaving: tuple[Any, ...] = ()


def test_the_page_is_made_of_the_table() -> None:
    page = ROOT / "docs" / "metrics.md"
    assert page.read_text() == as_markdown(), "run: python -m meshkit.metrics.table > docs/metrics.md"
