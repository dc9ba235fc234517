"""bookmesh: its client as a load client: discovery, balancing, retry, breaker, traced or not, and counted or not.

    python -m benchmarks.ours 127.0.0.1:2379 off
    python -m benchmarks.ours 127.0.0.1:2379 http://127.0.0.1:9411/api/v2/spans
    python -m benchmarks.ours 127.0.0.1:2379 http://127.0.0.1:9411/api/v2/spans metrics

It is book-client's wiring, without its line of log a call.
"""

from __future__ import annotations

import sys

import grpc
from book_pb2 import BookInfoParams
from book_pb2_grpc import BookServiceStub
from opentelemetry.trace import Tracer

from benchmarks.load import Call, Spans, serve_commands
from meshkit import (
    Endpoint,
    Endpointer,
    EtcdClient,
    HystrixBreaker,
    Instancer,
    Retry,
    RoundRobin,
    channel_factory,
    configure_logging,
    root_span,
    run_async,
)
from meshkit.client import Balancer
from meshkit.deadline import remaining
from meshkit.metrics import ClientMetrics
from meshkit.tracing import ResendingSpanProcessor, tracer_provider, zipkin_exporter


class OurSpans(Spans):
    """The processor's own counts."""

    def __init__(self, processor: ResendingSpanProcessor) -> None:
        self._processor = processor

    def flush(self) -> dict[str, int]:
        self._processor.force_flush()
        counts = self._processor.counts
        return {"made": counts.ended, "sent": counts.sent, "dropped": counts.dropped}

    def queued(self) -> int:
        return self._processor.counts.queued


def book_info_over(channel: grpc.aio.Channel, instance: str) -> Endpoint[int, object]:  # noqa: ARG001
    stub = BookServiceStub(channel)

    async def call(number: int) -> object:
        return await stub.GetBookInfo(BookInfoParams(book_id=number), timeout=remaining())

    return call


def retrying(picks: Balancer[int, object]) -> Call:
    """Attempts as book-client makes them."""
    return Retry(picks, attempts=3, timeout=30)


def guarded(books: Call) -> Call:
    """Calls through a breaker of their own, as book-client's go."""
    return HystrixBreaker("books", max_concurrent=1000)(books)


def traced(books: Call, tracer: Tracer) -> Call:
    """Calls with book-client's root span."""

    async def call(number: int) -> object:
        with root_span(tracer, "bookCaller"):
            return await books(number)

    return call


async def load(etcd_address: str, zipkin: str, counted: str = "") -> None:
    """Call as commanded."""
    tracer, spans = None, None
    if zipkin != "off":
        provider = tracer_provider("bench-client", address="127.0.0.1")
        processor = ResendingSpanProcessor(zipkin_exporter("bench-client", zipkin, address="127.0.0.1"))
        provider.add_span_processor(processor)
        tracer, spans = provider.get_tracer("benchmarks"), OurSpans(processor)
    metrics = ClientMetrics("etcd:///services/book/") if counted else None
    async with (
        EtcdClient([etcd_address]) as etcd,
        Instancer(etcd, "/services/book/") as instancer,
        Endpointer(instancer, channel_factory(book_info_over, tracer, metrics=metrics)) as endpointer,
    ):
        books = guarded(retrying(RoundRobin(endpointer)))
        if metrics is not None:
            books = metrics.calls_of("book")(books)
        await endpointer.wait_endpoints()
        await serve_commands(traced(books, tracer) if tracer else books, spans)


if __name__ == "__main__":
    configure_logging("json")
    run_async(load(*sys.argv[1:]))
