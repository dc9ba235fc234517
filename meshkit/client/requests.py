"""The requests of a call that streams them: taken once from the caller, sent by each attempt from the first one on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

__all__ = ["Requests"]

# Messages that are kept for another attempt; a call that has sent more is not made again (as in gRPC's A6, which has a
# buffer of so many bytes).
MOST_KEPT = 100


class Requests:
    """Messages on their way from the caller to gRPC, one at a time: the caller is not run ahead of.

    Args:
        encode: makes bytes of a message; None: they are bytes.
    """

    def __init__(self, encode: Callable[[Any], bytes] | None) -> None:
        self._encode = encode
        self._kept: deque[bytes] = deque()
        # Messages that are no longer kept, before those that are.
        self._dropped = 0
        self._given = 0
        self._sent = 0
        self.closed = self._complete = False
        self._keeping = True
        self._attempt = 0
        self._changed = asyncio.Event()

    @property
    def repeatable(self) -> bool:
        """Whether an attempt can still send all of them."""
        return not self._dropped

    @property
    def complete(self) -> bool:
        """Whether the caller has said that there are no more."""
        return self._complete

    async def put(self, request: Any) -> None:
        """Give a message, and wait until gRPC has taken it, or the call is over.

        Raises:
            Exception: whatever `encode` raises.
        """
        self._kept.append(self._encode(request) if self._encode else request)
        self._given += 1
        number = self._given
        self._tell()
        while self._sent < number and not self.closed:
            await self._changed.wait()

    def end(self) -> None:
        """There are no more."""
        self._complete = True
        self._tell()

    async def take_from(self, source: AsyncIterable[Any] | Iterable[Any]) -> None:
        """Give all messages of an iterator."""
        if isinstance(source, AsyncIterable):
            async for request in source:
                await self.put(request)
        else:
            for request in source:
                await self.put(request)
        self.end()

    def close(self) -> None:
        """The call is over: end all waiting."""
        self.closed = True
        self._tell()

    def keep_no_more(self) -> None:
        """No further attempt will be made."""
        self._keeping = False

    def messages(self) -> AsyncIterator[bytes]:
        """All messages from the first one on, for one attempt; it ends when there are no more, or by `stop`."""
        return self._messages(self._attempt)

    async def _messages(self, attempt: int) -> AsyncIterator[bytes]:
        number = 0
        # Looked at before each wait, too: the attempt may end while gRPC is sending.
        while attempt == self._attempt:
            if number < self._given:
                yield self._kept[number - self._dropped]
                # gRPC asks for the next one once it has sent this.
                number += 1
                self._sent = max(self._sent, number)
                self._let_go(number)
                self._tell()
            elif self._complete:
                return
            else:
                await self._changed.wait()

    def stop(self) -> None:
        """The attempt is over. gRPC would wait for its next request for ever."""
        self._attempt += 1
        self._tell()

    def _let_go(self, number: int) -> None:
        if self._keeping and len(self._kept) <= MOST_KEPT:
            return
        self._keeping = False
        while self._dropped < number:
            self._kept.popleft()
            self._dropped += 1

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
