"""A TCP relay on loopback that can be cut, as a network can."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from localmesh.ports import free_port

__all__ = ["Relay"]

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024


class Relay:
    """Passes connections on to `target`; while it is cut nothing passes, and nobody is told.

    As in a partitioned network connections stand and packets do not arrive; what TCP has kept comes after healing.

    Args:
        target: `host:port`, may be set later; need not be up: a connection to it then ends at once.
        port: To listen on; None takes a free one.
    """

    def __init__(self, target: str, *, port: int | None = None) -> None:
        self.address = f"{LOOPBACK}:{port or free_port()}"
        self.target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Let nothing pass any more."""
        self._whole.clear()

    def heal(self) -> None:
        """Let everything pass again."""
        self._whole.set()

    async def __aenter__(self) -> Self:
        """Listen."""
        host, _, port = self.address.rpartition(":")
        self._server = await asyncio.start_server(self._accept, host, int(port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all connections."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        await self._whole.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        ways = (self._one_way(reader, far_writer), self._one_way(far_reader, writer))
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # The end of either side reaches the other only through a network that is whole.
            await self._whole.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for end in (writer, far_writer):
                end.close()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
