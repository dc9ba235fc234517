"""A program of this project as a child process, and the events that it logs."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from localmesh.lines import entry_in
from localmesh.process import Process
from localmesh.waiting import NotYetError, until

__all__ = ["Program"]


class Program(Process):
    """A program of this project, which logs one JSON object a line."""

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """What the running (or last) process has logged so far; only that event, if given."""
        found = [entry for line in self.output().splitlines() if (entry := entry_in(line))]
        return [entry for entry in found if event is None or entry["event"] == event]

    async def wait_event(self, event: str, *, within: float = 20.0, count: int = 1) -> dict[str, Any]:
        """The `count`-th log line of that event, as soon as it is there."""

        async def probe() -> dict[str, Any]:
            found = self.events(event)
            if len(found) < count:
                raise NotYetError(f"{len(found)} of {count}; {self.last_words()}")
            return found[count - 1]

        return await until(probe, within=within, what=f"{self.name} logs {event!r}", every=0.02)

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Each log entry as it is written, until the process has ended."""
        seen = 0
        while True:
            ended = not self.running
            # A line without its end is still being written.
            lines = self.output().split("\n")[:-1]
            for line in lines[seen:]:
                if entry := entry_in(line):
                    yield entry
            seen = len(lines)
            if ended:
                return
            await asyncio.sleep(0.05)
