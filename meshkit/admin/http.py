"""uvicorn as a part of a program: it takes no signals, writes no log, and ends when it is told to."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn

__all__ = ["HttpServer"]

# Seconds for answers under way at the end.
GRACE = 1


class HttpServer:
    """Serves an application (ASGI).

    Args:
        connections: at a time; more are refused with 503.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections

    async def start(self, application: Any, sockets: Sequence[socket.socket]) -> None:
        """Accept connections. Not by `serve`, which would take over SIGTERM, and wake ten times a second."""
        config = uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=self._connections,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GRACE,
        )
        config.load()
        # Requests that make no sense are no news, and neither are its start and its end.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        await self._server.startup(list(sockets))

    async def stop(self) -> None:
        """Close the port, and what is open."""
        for connection in tuple(self._server.server_state.connections):
            # Whoever reads a stream reads for ever.
            if connection.transport.get_write_buffer_size():
                connection.transport.abort()
        await self._server.shutdown()

    def cut(self, client: Any) -> None:
        """End the connection of a client (its host and port) at once."""
        for connection in tuple(self._server.server_state.connections):
            if getattr(connection, "client", None) == client:
                connection.transport.abort()
