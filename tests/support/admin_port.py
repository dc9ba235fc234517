"""An admin port, as a browser or a scraper uses it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from localmesh.http import request
from localmesh.process import Process
from localmesh.waiting import NotYetError, until

__all__ = ["AdminPort", "Stream"]

WITHIN = 30.0


class Stream:
    """The messages of an event stream, as they come."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.messages: list[tuple[str, Any]] = []

    async def next(self) -> tuple[str, Any]:
        """The next message; EOFError once the stream has ended."""
        event = ""
        while True:
            line = (await self._reader.readline()).decode()
            if not line:
                raise EOFError("the stream has ended")
            name, _, value = line.strip().partition(": ")
            if name == "event":
                event = value
            elif name == "data":
                message = (event, json.loads(value))
                self.messages.append(message)
                return message

    async def wait(self, kind: str, fits: Callable[[Any], bool] = lambda _: True, within: float = WITHIN) -> Any:
        """The data of the next message of a kind that fits."""
        try:
            async with asyncio.timeout(within):
                while True:
                    event, data = await self.next()
                    if event == kind and fits(data):
                        return data
        except TimeoutError:
            raise AssertionError(f"no such {kind} within {within:g} s; the last: {self.messages[-3:]}") from None


class AdminPort:
    """That of a program."""

    def __init__(self, program: Process, address: str) -> None:
        self._program = program
        self.address = address

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text."""
        status, body = await request(f"http://{self.address}{path}", timeout=10)
        return status, body.decode()

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        """Status and JSON."""
        status, answer = await request(f"http://{self.address}{path}", body, timeout=10)
        return status, json.loads(answer)

    async def wait_for(self, path: str, status: int, within: float = WITHIN) -> str:
        """Wait until a path answers with a status; its text."""

        async def probe() -> str:
            answered, text = await self.get(path)
            if answered != status:
                raise NotYetError(f"{path} answers {answered} {text}; {self._program.output()[-500:]}")
            return text

        return await until(probe, within=within, what=f"{path} answers {status}")

    @asynccontextmanager
    async def events(self) -> AsyncIterator[Stream]:
        """Read the events while the body runs."""
        host, _, port = self.address.rpartition(":")
        # A line is a message: the first one has all that was before.
        reader, writer = await asyncio.open_connection(host, int(port), limit=16 * 1024 * 1024)
        # In HTTP/1.0, for an answer without chunks.
        writer.write(f"GET /events HTTP/1.0\r\nhost: {self.address}\r\n\r\n".encode())
        try:
            yield Stream(reader)
        finally:
            writer.close()
