"""A book service on plain grpc.aio with OpenTelemetry's own instrumentation, propagators and exporter.

    stock.py --zipkin URL --listen HOST:PORT                      answers calls itself
    stock.py --zipkin URL --listen HOST:PORT --forward HOST:PORT  passes them on
    stock.py --zipkin URL --call HOST:PORT                        calls both methods, and prints the trace's id

Run in an environment of its own: the instrumentation is no part of the project. `OTEL_PROPAGATORS` is read as usual.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import Any

import grpc
from book_pb2 import BookInfo, BookInfoParams, BookList, BookListParams
from book_pb2_grpc import BookServiceServicer, BookServiceStub, add_BookServiceServicer_to_server
from opentelemetry import trace
from opentelemetry.exporter.zipkin.proto.http import ZipkinExporter
from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcAioInstrumentorServer
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor


class Answering(BookServiceServicer):
    async def GetBookInfo(self, request: BookInfoParams, context: Any) -> BookInfo:  # noqa: N802 - the stub's
        return BookInfo(book_id=request.book_id, book_name="Go")

    async def GetBookList(self, request: BookListParams, context: Any) -> BookList:  # noqa: N802
        return BookList(book_list=[BookInfo(book_id=1, book_name="Go")])


class PassingOn(BookServiceServicer):
    def __init__(self, address: str) -> None:
        self._stub = BookServiceStub(grpc.aio.insecure_channel(address))

    async def GetBookInfo(self, request: BookInfoParams, context: Any) -> BookInfo:  # noqa: N802
        return await self._stub.GetBookInfo(request)  # type: ignore[no-any-return]

    async def GetBookList(self, request: BookListParams, context: Any) -> BookList:  # noqa: N802
        return await self._stub.GetBookList(request)  # type: ignore[no-any-return]


async def serve(address: str, servicer: BookServiceServicer) -> None:
    server = grpc.aio.server()
    add_BookServiceServicer_to_server(servicer, server)
    server.add_insecure_port(address)
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await stop.wait()
    await server.stop(1)


async def call(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = BookServiceStub(channel)
        with trace.get_tracer("stock").start_as_current_span("caller") as root:
            await stub.GetBookInfo(BookInfoParams(book_id=1), timeout=20)
            await stub.GetBookList(BookListParams(), timeout=20)
    print("trace", trace.format_trace_id(root.get_span_context().trace_id))


async def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    for name in ("zipkin", "name", "listen", "forward", "call"):
        arguments.add_argument(f"--{name}", default="")
    told = arguments.parse_args()
    provider = TracerProvider(resource=Resource.create({"service.name": told.name or "stock"}))
    provider.add_span_processor(SimpleSpanProcessor(ZipkinExporter(endpoint=told.zipkin)))
    trace.set_tracer_provider(provider)
    GrpcAioInstrumentorClient().instrument()
    GrpcAioInstrumentorServer().instrument()
    if told.call:
        await call(told.call)
    else:
        await serve(told.listen, PassingOn(told.forward) if told.forward else Answering())


asyncio.run(main())
