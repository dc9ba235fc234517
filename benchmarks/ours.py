"""(c) and (d): the mesh's client as a load client: discovery, balancing, retry, breaker, and traced or not.

    python -m benchmarks.ours 127.0.0.1:2379 off
    python -m benchmarks.ours 127.0.0.1:2379 http://127.0.0.1:9411/api/v2/spans

It is book-client's wiring, without its line of log a call.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
from book_pb2 import BookInfoParams
from book_pb2_grpc import BookServiceStub

from benchmarks.load import Spans, serve_commands
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
    remaining,
    root_span,
    run_async,
    tracer_provider,
)
from meshkit.tracing import ResendingSpanProcessor, zipkin_exporter


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


async def load(etcd_address: str, zipkin: str) -> None:
    """Call as commanded."""
    tracer, spans = None, None
    if zipkin != "off":
        provider = tracer_provider("bench-client", address="127.0.0.1")
        processor = ResendingSpanProcessor(zipkin_exporter("bench-client", zipkin, address="127.0.0.1"))
        provider.add_span_processor(processor)
        tracer, spans = provider.get_tracer("benchmarks"), OurSpans(processor)
    async with (
        EtcdClient([etcd_address]) as etcd,
        Instancer(etcd, "/services/book/") as instancer,
        Endpointer(instancer, channel_factory(book_info_over, tracer)) as endpointer,
    ):
        breaker = HystrixBreaker("books", timeout=30, max_concurrent=1000)
        books: Endpoint[int, object] = breaker(Retry(RoundRobin(endpointer), attempts=3, timeout=30))
        call: Any = books
        if tracer is not None:
            maker = tracer

            async def traced(number: int) -> object:
                with root_span(maker, "bookCaller"):
                    return await books(number)

            call = traced
        await endpointer.wait_endpoints()
        await serve_commands(call, spans)


if __name__ == "__main__":
    configure_logging("json")
    run_async(load(*sys.argv[1:]))
