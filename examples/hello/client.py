"""Calls the greeter, wherever its servers are: `client.py`."""

from helloworld_pb2 import HelloRequest
from helloworld_pb2_grpc import GreeterStub

import meshkit


async def main():
    mesh = meshkit.Mesh("hello", zipkin="http://127.0.0.1:9411/api/v2/spans")
    async with mesh, mesh.channel("greeter") as channel:
        reply = await GreeterStub(channel).SayHello(HelloRequest(name="world"), timeout=5, wait_for_ready=True)
        print(reply.message)


meshkit.run_async(main())
