"""A channel that can be replaced by another one while it is in use."""

from __future__ import annotations

import asyncio
import contextlib

import grpc

__all__ = ["SharedChannel"]


class SharedChannel:
    """A channel and the number of its users: `with shared as channel`. Closing it cancels their calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def __enter__(self) -> grpc.aio.Channel:
        self._users += 1
        self._unused.clear()
        return self.channel

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def retire(self, drain: float | None) -> None:
        """Close it once it is no longer used, or after `drain` seconds if given; at once when this is cancelled."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(drain):
                    await self._unused.wait()
        finally:
            await self.channel.close()
