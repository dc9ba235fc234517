"""A mesh that is changed while it runs: replicas come and go, etcd and Zipkin stop and start."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from localmesh.components import BookServer, EtcdServer, ZipkinServer
from localmesh.process import Process

__all__ = ["MOST_REPLICAS", "Action", "LiveMesh"]

MOST_REPLICAS = 50

Action = Callable[[Mapping[str, Any]], Awaitable[str]]


class LiveMesh:
    """Etcd, Zipkin and replicas of the book service on this machine.

    Args:
        run_dir: For logs and data.
        port: Gives a free port, from the one that is preferred and what it is for.
        ports: Those that are preferred: of `etcd`, `Zipkin`, the first `book-server`, whose followers' come next, and
            its `admin` port, as well.
    """

    def __init__(self, run_dir: Path, port: Callable[[int, str], int], *, ports: Mapping[str, int]) -> None:
        self.run_dir = run_dir
        self.etcd = EtcdServer(run_dir, port=port(ports["etcd"], "etcd"))
        self.zipkin = ZipkinServer(run_dir, port=port(ports["Zipkin"], "Zipkin"))
        self.servers: list[BookServer] = []
        self._port = port
        self._preferred = ports
        # Of each replica, and of its admin port.
        self._ports: list[tuple[int, int]] = []
        self._flags: tuple[str, ...] = ()
        # One change at a time: two at once would both start, or both stop, the same part.
        self._changing = asyncio.Lock()

    def plan(self, replicas: int, flags: Sequence[str]) -> None:
        """Make the replicas, not yet started; those of an earlier plan have to be stopped."""
        self._flags = tuple(flags)
        self.servers = []
        for _ in range(replicas):
            self._add()

    def _add(self) -> BookServer:
        number = len(self.servers)
        if number == len(self._ports):
            name = f"book-server {number + 1}"
            port = self._port(self._preferred["book-server"] + number, name)
            self._ports.append((port, self._port(self._preferred["admin"] + number, f"the admin port of {name}")))
        port, admin = self._ports[number]
        where: dict[str, Any] = {"etcd": self.etcd.address, "zipkin": self.zipkin.collector, "port": port}
        self.servers.append(BookServer(self.run_dir, *self._flags, "--admin", f"127.0.0.1:{admin}", **where))
        return self.servers[-1]

    async def stop_servers(self) -> None:
        """Stop all replicas at once."""
        await asyncio.gather(*(server.stop() for server in self.servers))

    def actions(self) -> dict[str, Action]:
        """What can be done to it while it runs; each says in a sentence what happened.

        Raises (each of them):
            ValueError: There is nothing to do, e.g. etcd is stopped already.
            StartError: A part did not start.
        """
        return {
            "more": self._alone(self._more),
            "fewer": self._alone(self._fewer),
            "etcd-stop": self._alone(lambda: _stopped("etcd", self.etcd.process, self.etcd.stop)),
            "etcd-start": self._alone(lambda: _started("etcd", self.etcd.process, self.etcd.start)),
            "zipkin-stop": self._alone(lambda: _stopped("Zipkin", self.zipkin.process, self.zipkin.stop)),
            "zipkin-start": self._alone(lambda: _started("Zipkin", self.zipkin.process, self.zipkin.start)),
        }

    def _alone(self, change: Callable[[], Awaitable[str]]) -> Action:
        async def action(_: Mapping[str, Any]) -> str:
            async with self._changing:
                return await change()

        return action

    async def _more(self) -> str:
        """One that has died starts again, else there is a new one."""
        server = next((server for server in self.servers if not server.running), None)
        if server is None:
            if len(self.servers) >= MOST_REPLICAS:
                raise ValueError(f"there are {MOST_REPLICAS} replicas, as many as there may be")
            server = self._add()
        if self.etcd.process.running:
            await server.start_ready()
            return f"{server.address} is ready"
        server.spawn()
        return f"{server.address} starts, and registers once etcd is back"

    async def _fewer(self) -> str:
        server = next((server for server in reversed(self.servers) if server.running), None)
        if server is None:
            raise ValueError("there is no replica left to stop")
        await server.stop()
        if server is self.servers[-1]:
            self.servers.pop()
        return f"{server.address} has left"


async def _stopped(name: str, process: Process, stop: Callable[[], Awaitable[None]]) -> str:
    if not process.running:
        raise ValueError(f"{name} is stopped already")
    await stop()
    return f"{name} has stopped"


async def _started(name: str, process: Process, start: Callable[[], Awaitable[None]]) -> str:
    if process.running:
        raise ValueError(f"{name} runs already")
    await start()
    return f"{name} is up"
