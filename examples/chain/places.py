"""The second of three services: it has each place greeted by `greeter`. `places.py 127.0.0.1:6201`."""

import sys

from helloworld_pb2 import HelloRequest
from helloworld_pb2_grpc import GreeterStub
from route_guide_pb2 import Feature
from route_guide_pb2_grpc import RouteGuideServicer, add_RouteGuideServicer_to_server

import meshkit

ZIPKIN = "http://127.0.0.1:9411/api/v2/spans"


class Places(RouteGuideServicer):
    def __init__(self, greeter):
        self.greeter = GreeterStub(greeter)

    async def GetFeature(self, request, context):  # noqa: N802
        greeting = await self.greeter.SayHello(HelloRequest(name=f"place {request.latitude}"), wait_for_ready=True)
        return Feature(name=greeting.message, location=request)


async def main(address):
    mesh = meshkit.Mesh("places", address=address, zipkin=ZIPKIN)
    with meshkit.stop_signal() as stop:
        async with (
            mesh,
            mesh.channel("greeter", idempotent=True) as greeter,
            mesh.serve(lambda server: add_RouteGuideServicer_to_server(Places(greeter), server)),
        ):
            await stop.wait()


meshkit.run_async(main(sys.argv[1]))
