"""gRPC's route guide: the four kinds of call, written as for plain grpc.aio. `server.py 127.0.0.1:6301`."""

import sys

from route_guide_pb2 import Feature, Point, RouteNote, RouteSummary
from route_guide_pb2_grpc import RouteGuideServicer, add_RouteGuideServicer_to_server

import meshkit


class RouteGuide(RouteGuideServicer):
    async def GetFeature(self, request, context):  # noqa: N802
        return Feature(name=f"feature {request.latitude}", location=request)

    async def ListFeatures(self, request, context):  # noqa: N802
        for latitude in range(request.lo.latitude, request.hi.latitude):
            yield Feature(name=f"feature {latitude}", location=Point(latitude=latitude))

    async def RecordRoute(self, request_iterator, context):  # noqa: N802
        return RouteSummary(point_count=len([point async for point in request_iterator]))

    async def RouteChat(self, request_iterator, context):  # noqa: N802
        async for note in request_iterator:
            yield RouteNote(location=note.location, message=f"{note.message} too")


mesh = meshkit.Mesh("route-guide", address=sys.argv[1], zipkin="http://127.0.0.1:9411/api/v2/spans")
meshkit.run_async(mesh.run(lambda server: add_RouteGuideServicer_to_server(RouteGuide(), server)))
