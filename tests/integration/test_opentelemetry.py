"""At home in OpenTelemetry: stock instrumentation in the middle, a collector that speaks OTLP, sampling by ratio."""

from __future__ import annotations

import gzip
import json
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from book_pb2 import BookInfo, BookList
from book_pb2_grpc import BookServiceServicer, BookServiceStub, add_BookServiceServicer_to_server
from opentelemetry.context import Context
from opentelemetry.exporter.zipkin.proto.http import ZipkinExporter
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from localmesh.components import FAST, BookClient, BookServer, EtcdServer, ZipkinServer
from meshkit.etcd import EtcdClient
from meshkit.tracing.sampling import sampler_of

MIDDLE = "/services/middle/"
PROPAGATORS: dict[str, Callable[[], TextMapPropagator]] = {
    "tracecontext": TraceContextTextMapPropagator,
    "b3": B3SingleFormat,
    "b3multi": B3MultiFormat,
}


class StockService(BookServiceServicer):
    """Passes calls on, traced as OpenTelemetry's instrumentation does: the SDK, a stock propagator and exporter."""

    def __init__(self, stub: BookServiceStub, provider: TracerProvider, propagator: TextMapPropagator) -> None:
        self._stub = stub
        self._tracer = provider.get_tracer("stock")
        self._propagator = propagator

    async def GetBookInfo(self, request: Any, context: Any) -> BookInfo:  # noqa: N802 - the stub's
        return await self._passed_on(self._stub.GetBookInfo, request, context)  # type: ignore[no-any-return]

    async def GetBookList(self, request: Any, context: Any) -> BookList:  # noqa: N802
        return await self._passed_on(self._stub.GetBookList, request, context)  # type: ignore[no-any-return]

    async def _passed_on(self, call: Any, request: Any, context: Any) -> Any:
        caller = self._propagator.extract(dict(context.invocation_metadata()), Context())
        with self._tracer.start_as_current_span("stock", caller, SpanKind.SERVER):
            headers: dict[str, str] = {}
            self._propagator.inject(headers)
            return await call(request, metadata=tuple(headers.items()))


@asynccontextmanager
async def stock_service(address: str, zipkin: str, propagator: TextMapPropagator) -> AsyncIterator[str]:
    """One in front of the server at that address; where it listens."""
    provider = TracerProvider(resource=Resource({"service.name": "stock"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(ZipkinExporter(endpoint=zipkin)))
    server = grpc.aio.server()
    async with grpc.aio.insecure_channel(address) as channel:
        add_BookServiceServicer_to_server(StockService(BookServiceStub(channel), provider, propagator), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(0)
            provider.shutdown()


@pytest.mark.parametrize("propagator", PROPAGATORS)
async def test_a_call_through_a_service_with_stock_instrumentation_is_one_trace(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, zipkin: ZipkinServer, propagator: str
) -> None:
    flags: tuple[str, ...] = ("--propagators", propagator)
    async with (
        BookServer(run_dir, *FAST, *flags, etcd=etcd.address, zipkin=zipkin.collector) as server,
        stock_service(server.address, zipkin.collector, PROPAGATORS[propagator]()) as middle,
    ):
        await etcd_client.put(MIDDLE + middle, middle)
        flags += "--calls", "1", "--etcd-prefix", MIDDLE
        client = BookClient(run_dir, *flags, etcd=etcd.address, zipkin=zipkin.collector)
        client.spawn()
        assert await client.wait() == 0
        spans = await zipkin.wait_trace(client.calls[0]["trace_id"], 7)
    by_id = {span["id"]: span for span in spans}
    served = [span for span in spans if span["localEndpoint"]["serviceName"] == "book-server"]
    assert len(spans) == 7
    for span in served:
        stock = by_id[span["parentId"]]
        called = by_id[stock["parentId"]]
        assert stock["localEndpoint"]["serviceName"] == "stock"
        assert (called["kind"], by_id[called["parentId"]]["name"]) == ("CLIENT", "bookcaller")
    assert len(served) == 2


async def test_traces_kept_by_ratio_are_whole_and_the_others_leave_nothing(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    count, ratio = 300, 0.2
    sampling = "--sampler", "parentbased_traceidratio", "--sampler-arg", str(ratio)
    rule, _ = sampler_of(sampling[1], ratio)
    async with BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=zipkin.collector):
        flags = "--calls", str(count), "--concurrency", "8"
        client = BookClient(run_dir, *flags, *sampling, etcd=etcd.address, zipkin=zipkin.collector)
        client.spawn()
        assert await client.wait() == 0
        ids = [call["trace_id"] for call in client.calls]
        kept = [i for i in ids if rule.should_sample(None, int(i, 16), "call").decision.value]
        for trace_id in kept:
            assert len(await zipkin.wait_trace(trace_id, 5)) == 5
        assert [await zipkin.trace(trace_id) for trace_id in ids if trace_id not in kept] == [[]] * (count - len(kept))
    assert abs(len(kept) - count * ratio) <= 3 * math.sqrt(count * ratio * (1 - ratio))


class OtlpCollector(ThreadingHTTPServer):
    """Takes OTLP's JSON, as strictly as the protocol's JSON mapping is; remembers the spans, each with its resource."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), OtlpRequest)
        self.spans: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Condition()


class OtlpRequest(BaseHTTPRequestHandler):
    server: OtlpCollector
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/json")
        with self.server.lock:
            for resource in json.loads(body)["resourceSpans"]:
                told = {each["key"]: each["value"].get("stringValue") for each in resource["resource"]["attributes"]}
                for scope in resource["scopeSpans"]:
                    self.server.spans += [span | {"resource": told} for span in scope["spans"]]
            self.server.headers.append(dict(self.headers))
            self.server.lock.notify_all()
        answer = b'{"partialSuccess":{}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def otlp_collector() -> Iterator[OtlpCollector]:
    with OtlpCollector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


async def test_a_collector_gets_each_calls_whole_trace_by_otlp_as_the_variables_say(
    run_dir: Path, etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with otlp_collector() as collector:
        variables = {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=K3Y%3D",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_RESOURCE_ATTRIBUTES": "team=mesh",
            "OTEL_SEMCONV_STABILITY_OPT_IN": "rpc",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        async with BookServer(run_dir, *FAST, etcd=etcd.address):
            client = BookClient(run_dir, "--calls", "20", "--concurrency", "4", etcd=etcd.address)
            client.spawn()
            assert await client.wait() == 0
        # Both have sent what they had before they ended.
        spans = collector.spans
        assert all(headers["api-key"] == "K3Y=" for headers in collector.headers)
    for call in client.calls:
        trace = [span for span in spans if span["traceId"] == call["trace_id"]]
        by_id = {span["spanId"]: span for span in trace}
        (root,) = (span for span in trace if "parentSpanId" not in span)
        assert (len(trace), len(by_id), root["spanId"]) == (5, 5, call["span_id"])
        kinds = {2: "book-server", 3: "book-client"}
        for span in trace:
            assert span["resource"]["team"] == "mesh"
            if span is not root:
                assert span["resource"]["service.name"] == kinds[span["kind"]]
                assert by_id[span["parentSpanId"]]["kind"] == {2: 3, 3: 1}[span["kind"]]
                tags = {each["key"]: each["value"] for each in span["attributes"]}
                assert tags["rpc.method"]["stringValue"] in {"BookService/GetBookInfo", "BookService/GetBookList"}
                assert tags["rpc.status_code"] == {"stringValue": "OK"}
