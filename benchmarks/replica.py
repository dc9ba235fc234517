"""`python -m benchmarks.replica HOW`: a plain gRPC server that is well or sick in one way; prints its port.

HOW is seconds that a call takes, a status that every call fails with, or `hang`. SIGUSR1 makes calls take 2 s, and the
next one makes them take as long as before.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import grpc

METHOD = "/benchmarks.Replica/Call"
SLOW = 2.0
# As a server of the mesh allows them.
PINGS = (("grpc.http2.min_ping_interval_without_data_ms", 500), ("grpc.keepalive_permit_without_calls", 1))


async def main(how: str) -> None:
    """Serve until the process is killed."""
    usual = 0.0 if how == "hang" or how in grpc.StatusCode.__members__ else float(how)
    slow = False

    def turn() -> None:
        nonlocal slow
        slow = not slow

    async def call(request: bytes, context: Any) -> bytes:
        if how == "hang":
            await asyncio.Event().wait()
        elif how in grpc.StatusCode.__members__:
            await context.abort(grpc.StatusCode[how], "sick")
        else:
            await asyncio.sleep(SLOW if slow else usual)
        return request

    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, turn)
    server = grpc.aio.server(options=PINGS)
    _, service, method = METHOD.split("/")
    handlers: Any = {method: grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
