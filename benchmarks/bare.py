"""Bare grpc.aio on the same protobuf, nothing around it; as a server, and as a load client.

python -m benchmarks.bare server 127.0.0.1:50051 asyncio|uvloop
python -m benchmarks.bare client 127.0.0.1:50051,127.0.0.1:50052 asyncio|uvloop
"""

from __future__ import annotations

import asyncio
import json
import sys

import grpc
from book_pb2 import BookInfoParams
from book_pb2_grpc import BookServiceStub, add_BookServiceServicer_to_server
from book_server.books import BookService

from benchmarks.load import Call, serve_commands

ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


async def serve(address: str) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    add_BookServiceServicer_to_server(BookService(0, 0), server)
    server.add_insecure_port(address)
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


def static_channel(addresses: str) -> grpc.aio.Channel:
    """A channel over static addresses, balanced by gRPC itself."""
    return grpc.aio.insecure_channel(f"ipv4:{addresses}", options=[("grpc.service_config", ROUND_ROBIN)])


def bare_call(stub: BookServiceStub) -> Call:
    """A call with nothing around it."""

    async def call(number: int) -> object:
        return await stub.GetBookInfo(BookInfoParams(book_id=number))

    return call


async def load(addresses: str) -> None:
    """Call as commanded."""
    async with static_channel(addresses) as channel:
        await serve_commands(bare_call(BookServiceStub(channel)))


if __name__ == "__main__":
    role, where, loop = sys.argv[1:]
    if loop == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(serve(where) if role == "server" else load(where))
