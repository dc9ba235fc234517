"""The first of three services, a stream: it asks `places` for each point of a line. `guide.py 127.0.0.1:6101`."""

import asyncio
import sys

from route_guide_pb2 import Point
from route_guide_pb2_grpc import RouteGuideServicer, RouteGuideStub, add_RouteGuideServicer_to_server

import meshkit

ZIPKIN = "http://127.0.0.1:9411/api/v2/spans"


class Guide(RouteGuideServicer):
    def __init__(self, places):
        self.places = RouteGuideStub(places)

    async def ListFeatures(self, request, context):  # noqa: N802
        for latitude in range(request.lo.latitude, request.hi.latitude):
            yield await self.places.GetFeature(Point(latitude=latitude), wait_for_ready=True)
            await asyncio.sleep(0.05)


async def main(address):
    mesh = meshkit.Mesh("guide", address=address, zipkin=ZIPKIN)
    with meshkit.stop_signal() as stop:
        async with (
            mesh,
            # What is only read may be asked twice: a `places` that is killed in the middle costs nothing.
            mesh.channel("places", idempotent=True) as places,
            mesh.serve(lambda server: add_RouteGuideServicer_to_server(Guide(places), server)),
        ):
            await stop.wait()


meshkit.run_async(main(sys.argv[1]))
