"""A greeter, as many as one likes: `server.py 127.0.0.1:6001`, `server.py 127.0.0.1:6002`."""

import sys

from helloworld_pb2 import HelloReply
from helloworld_pb2_grpc import GreeterServicer, add_GreeterServicer_to_server

import meshkit


class Greeter(GreeterServicer):
    async def SayHello(self, request, context):  # noqa: N802
        return HelloReply(message=f"Hello {request.name}")


mesh = meshkit.Mesh("greeter", address=sys.argv[1], zipkin="http://127.0.0.1:9411/api/v2/spans")
meshkit.run_async(mesh.run(lambda server: add_GreeterServicer_to_server(Greeter(), server)))
