"""Server-sent events: one stream of messages to as many readers as there are, none of which is waited for.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from meshkit.background import end_tasks

__all__ = ["EventStream", "Feed"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

# Messages that may wait for a reader: half a minute's. One that is further behind is dropped, and connects again.
BEHIND = 120


class Reader:
    """Somebody who reads: the messages that wait for it, and whether more will come."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended = asyncio.Event()


class Feed:
    """Messages for all that read them now."""

    def __init__(self) -> None:
        self._readers: set[Reader] = set()

    @property
    def read(self) -> bool:
        """Whether anybody reads."""
        return bool(self._readers)

    def publish(self, event: str, data: Any) -> None:
        """Send a message to each reader; the stream of one that is too far behind ends instead."""
        if not self._readers:
            return
        message = encoded(event, data)
        for reader in tuple(self._readers):
            if reader.messages.qsize() >= BEHIND:
                reader.ended.set()
            else:
                reader.messages.put_nowait(message)

    def close(self) -> None:
        """End all streams."""
        for reader in self._readers:
            reader.ended.set()

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Receive the messages while the body runs."""
        reader = Reader()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)


def encoded(event: str, data: Any) -> bytes:
    """A message of the stream; its data are JSON without a line end."""
    return f"event: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


class EventStream:
    """The application (ASGI) that answers with a feed's messages.

    Args:
        feed: of the messages.
        hello: makes the first message's data, for each reader anew.
        cut: ends a connection at once, by its client's address: an end that is sent would wait for whoever does not
            read. A page connects again by itself.
        headers: of the answer.
    """

    def __init__(
        self, feed: Feed, hello: Callable[[], Any], cut: Callable[[Any], None], headers: list[tuple[bytes, bytes]]
    ) -> None:
        self._feed = feed
        self._hello = hello
        self._cut = cut
        self._headers = [*headers, (b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        with self._feed.reading() as reader:
            sending = asyncio.ensure_future(self._send_all(reader, send))
            ends = [asyncio.ensure_future(_disconnected(receive)), asyncio.ensure_future(reader.ended.wait())]
            try:
                await asyncio.wait((sending, *ends), return_when=asyncio.FIRST_COMPLETED)
                self._cut(scope.get("client"))
            finally:
                await end_tasks((sending, *ends))

    async def _send_all(self, reader: Reader, send: Send) -> None:
        message = encoded("hello", self._hello())
        while True:
            await send({"type": "http.response.body", "body": message, "more_body": True})
            message = await reader.messages.get()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
