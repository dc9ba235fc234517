"""A TCP relay on loopback that can be cut, can forget and can be reset, as a network can."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from localmesh.ports import free_port
from meshkit.background import end_tasks

__all__ = ["Relay"]

LOOPBACK = "127.0.0.1"
CHUNK = 64 * 1024


class Relay:
    """Passes connections on to `target`; while it is cut, nothing passes and neither side is told.

    As in a partitioned network, connections stay open and packets do not arrive; TCP delivers them after healing.

    Args:
        target: `host:port`, may be set later; need not be up: a connection to it then ends at once.
        port: To listen on; None takes a free one.
    """

    def __init__(self, target: str, *, port: int | None = None) -> None:
        self.address = f"{LOOPBACK}:{port or free_port()}"
        self.target = target
        self._whole = asyncio.Event()
        self._whole.set()
        # Counts the times that it forgot: connections of an earlier age are forgotten.
        self._age = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Let nothing pass any more."""
        self._whole.clear()

    def heal(self) -> None:
        """Let everything pass again."""
        self._whole.set()

    def forget(self) -> None:
        """Let nothing pass any more on the open connections, and tell neither side: as when a NAT loses its table."""
        self._age += 1

    def reset(self) -> None:
        """End all open connections with RST."""
        for connection in self._connections:
            connection.cancel()

    async def _passes(self, age: int) -> None:
        await self._whole.wait()
        if age != self._age:
            await asyncio.Event().wait()

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
        await end_tasks(tuple(self._connections))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        age = self._age
        await self._whole.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        ways = (self._one_way(reader, far_writer, age), self._one_way(far_reader, writer, age))
        tasks = [asyncio.create_task(way) for way in ways]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # The end of either side reaches the other only through a network that is whole.
            await self._passes(age)
        except asyncio.CancelledError:
            for end in (writer, far_writer):
                end.transport.abort()
            raise
        finally:
            await end_tasks(tasks)
            for end in (writer, far_writer):
                end.close()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, age: int) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._passes(age)
                writer.write(data)
                await writer.drain()
