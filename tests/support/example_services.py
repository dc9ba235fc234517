"""gRPC's example services, written against plain grpc.aio, on servers of this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from helloworld_pb2 import HelloReply, HelloRequest
from helloworld_pb2_grpc import GreeterServicer, add_GreeterServicer_to_server
from opentelemetry.trace import SpanKind
from route_guide_pb2 import Feature, Point, Rectangle, RouteNote, RouteSummary
from route_guide_pb2_grpc import RouteGuideServicer, add_RouteGuideServicer_to_server

from meshkit.testing import FixedInstances as Instances
from meshkit.testing import MemorySpans

__all__ = ["Greeter", "Instances", "RouteGuide", "Spans", "greeters", "guides"]


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
async def greeters(number: int, make: Callable[[], Greeter] = Greeter) -> AsyncIterator[dict[str, Greeter]]:
    """So many greeters, by their addresses."""
    served: dict[str, Greeter] = {}
    servers = []
    for _ in range(number):
        server, greeter = grpc.aio.server(), make()
        add_GreeterServicer_to_server(greeter, server)  # type: ignore[no-untyped-call]
        served[f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"] = greeter
        await server.start()
        servers.append(server)
    yield served
    for server in servers:
        await server.stop(0)


class Spans(MemorySpans):
    """Spans whose fields are looked at without asking for their types."""

    ended: list[Any]

    def of(self, kind: SpanKind) -> list[Any]:
        return super().of(kind)


class RouteGuide(RouteGuideServicer):
    """gRPC's tutorial, on features of the test's own; does otherwise where the rectangle says so."""

    def __init__(self, features: int = 5) -> None:
        self.features = [Feature(name=str(n), location=Point(latitude=n, longitude=n)) for n in range(features)]
        self.begun = 0
        self.ended = 0
        self.release = asyncio.Event()
        self.fails_at: int | None = None
        self.waits_at: int | None = None
        self.contexts: list[Any] = []

    async def GetFeature(self, request: Point, context: Any) -> Feature:  # noqa: N802
        return next((f for f in self.features if f.location == request), Feature(location=request))

    async def ListFeatures(self, request: Rectangle, context: Any) -> AsyncIterator[Feature]:  # noqa: N802
        self.begun += 1
        try:
            for number, feature in enumerate(self.features):
                await self._hinder(number, context)
                yield feature
        finally:
            self.ended += 1

    async def RecordRoute(self, request_iterator: AsyncIterator[Point], context: Any) -> RouteSummary:  # noqa: N802
        self.begun += 1
        points = 0
        try:
            async for _ in request_iterator:
                points += 1
                await self._hinder(points, context)
            return RouteSummary(point_count=points)
        finally:
            self.ended += 1

    async def RouteChat(  # noqa: N802
        self, request_iterator: AsyncIterator[RouteNote], context: Any
    ) -> AsyncIterator[RouteNote]:
        self.begun += 1
        try:
            number = 0
            async for note in request_iterator:
                await self._hinder(number, context)
                if note.message == "that is all":
                    return
                yield note
                number += 1
        finally:
            self.ended += 1

    async def _hinder(self, number: int, context: Any) -> None:
        if number == self.fails_at:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"failed at {number}")
        if number == self.waits_at:
            await self.release.wait()


@asynccontextmanager
async def guides(number: int, features: int = 5) -> AsyncIterator[dict[str, RouteGuide]]:
    """So many route guides, by their addresses."""
    served: dict[str, RouteGuide] = {}
    servers = []
    for _ in range(number):
        server, guide = grpc.aio.server(), RouteGuide(features)
        add_RouteGuideServicer_to_server(guide, server)  # type: ignore[no-untyped-call]
        served[f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"] = guide
        await server.start()
        servers.append(server)
    yield served
    for server in servers:
        await server.stop(0)
