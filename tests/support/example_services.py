"""gRPC's example services, written against plain grpc.aio, on servers of this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from helloworld_pb2 import HelloReply, HelloRequest
from helloworld_pb2_grpc import GreeterServicer, add_GreeterServicer_to_server
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from meshkit.discovery import InstanceChange, Observer
from meshkit.tracing import tracer_provider


class Instances:
    """An InstanceSource with addresses that the test changes at will."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = frozenset(addresses)
        self._observers: list[Observer] = []

    def subscribe(self, observer: Observer) -> Any:
        self._observers.append(observer)
        observer(InstanceChange(self.addresses, frozenset()))
        return lambda: self._observers.remove(observer)

    def change(self, *addresses: str) -> None:
        before, self.addresses = self.addresses, frozenset(addresses)
        for observer in self._observers:
            observer(InstanceChange(self.addresses - before, before - self.addresses))


class Greeter(GreeterServicer):
    """Greets; does otherwise where the name says so. `seen` has the names, `left` the seconds of each call."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.left: list[float | None] = []
        self.metadata: list[dict[str, Any]] = []
        self.release = asyncio.Event()

    async def SayHello(self, request: HelloRequest, context: Any) -> HelloReply:  # noqa: N802
        self.seen.append(request.name)
        self.left.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))
        context.set_trailing_metadata((("greeter", "here"),))
        if request.name == "nobody":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such person")
        if request.name == "unwell":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
        if request.name == "wait":
            await self.release.wait()
        return HelloReply(message=f"Hello {request.name}")


@asynccontextmanager
async def greeters(number: int) -> AsyncIterator[dict[str, Greeter]]:
    """So many greeters, by their addresses."""
    served: dict[str, Greeter] = {}
    servers = []
    for _ in range(number):
        server, greeter = grpc.aio.server(), Greeter()
        add_GreeterServicer_to_server(greeter, server)  # type: ignore[no-untyped-call]
        served[f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"] = greeter
        await server.start()
        servers.append(server)
    yield served
    for server in servers:
        await server.stop(0)


class Spans:
    """A tracer whose spans can be looked at as soon as they have ended."""

    def __init__(self, service: str = "test") -> None:
        self._exporter = InMemorySpanExporter()
        provider = tracer_provider(service)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def ended(self) -> tuple[Any, ...]:
        return self._exporter.get_finished_spans()
