"""The usual stack: opentelemetry-instrumentation-grpc, stock batch processor, stock Zipkin exporter.

    python -m benchmarks.usual server 127.0.0.1:50051 http://127.0.0.1:9411/api/v2/spans
    python -m benchmarks.usual client 127.0.0.1:50051,127.0.0.1:50052 http://127.0.0.1:9411/api/v2/spans
    python -m benchmarks.usual client-with-root 127.0.0.1:50051,127.0.0.1:50052 http://127.0.0.1:9411/api/v2/spans

With a root, a call makes the same three spans as the mesh's. Runs in an environment of its own (requirements/bench.in).
A server sends the spans that wait on SIGUSR1.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import grpc
from book_pb2 import BookInfoParams
from book_pb2_grpc import BookServiceStub, add_BookServiceServicer_to_server
from book_server.books import BookService
from opentelemetry import propagate
from opentelemetry.exporter.zipkin.proto.http import ZipkinExporter
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.bare import ROUND_ROBIN
from benchmarks.load import Spans, serve_commands


class StockSpans(Spans):
    """The stock processor counts nothing: what a call makes, on both sides, is known."""

    def __init__(self, service: str, zipkin: str) -> None:
        propagate.set_global_textmap(B3MultiFormat())
        self.provider = TracerProvider(resource=Resource({SERVICE_NAME: service}), shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(ZipkinExporter(endpoint=zipkin)))
        self.made = 0

    def flush(self) -> dict[str, int]:
        self.provider.force_flush()
        return {"made": self.made}


async def serve(address: str, spans: StockSpans) -> None:
    """Serve until SIGTERM."""
    server = grpc.aio.server(interceptors=[aio_server_interceptor(tracer_provider=spans.provider)])
    add_BookServiceServicer_to_server(BookService(0, 0), server)
    server.add_insecure_port(address)
    await server.start()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, loop.run_in_executor, None, spans.flush)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await stop.wait()
    await server.stop(1)


async def load(addresses: str, spans: StockSpans, *, root: bool) -> None:
    """Call as commanded."""
    tracer = spans.provider.get_tracer("benchmarks")
    interceptors: Any = aio_client_interceptors(tracer_provider=spans.provider)
    options = [("grpc.service_config", ROUND_ROBIN)]
    async with grpc.aio.insecure_channel(f"ipv4:{addresses}", options=options, interceptors=interceptors) as channel:
        stub = BookServiceStub(channel)

        async def call(number: int) -> object:
            spans.made += 2
            return await stub.GetBookInfo(BookInfoParams(book_id=number))

        async def call_with_root(number: int) -> object:
            spans.made += 1
            with tracer.start_as_current_span("bookCaller"):
                return await call(number)

        await serve_commands(call_with_root if root else call, spans)


if __name__ == "__main__":
    role, where, zipkin_url = sys.argv[1:]
    stock = StockSpans(f"usual-{role}", zipkin_url)
    asyncio.run(serve(where, stock) if role == "server" else load(where, stock, root=role == "client-with-root"))
    stock.provider.shutdown()
