"""A mesh of real programs beside a browser: etcd, Zipkin, replicas that take faults, and a client with a page."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from localmesh.components import FAST, BookClient
from localmesh.controls import controls
from localmesh.http import UnreachableError, request
from localmesh.live_mesh import LiveMesh
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until

__all__ = ["RealMesh", "real_mesh"]

T = TypeVar("T")

PORTS = {"etcd": 0, "Zipkin": 0, "book-server": 0}


class RealMesh:
    """Three replicas, and a client that makes some twenty calls a second.

    The programs belong to a thread with an event loop of its own, as the browser's driver blocks the tests' one.
    """

    def __init__(self, run_dir: Path) -> None:
        self.mesh = LiveMesh(run_dir, lambda *_: free_port(), ports=PORTS)
        self.page = f"http://127.0.0.1:{free_port()}/"
        self.server_page = f"127.0.0.1:{free_port()}"
        self.client: BookClient
        self._run_dir = run_dir
        self._loop = asyncio.new_event_loop()

    def do(self, work: Coroutine[Any, Any, T], within: float = 120) -> T:
        """Run a coroutine in the programs' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within)

    def status(self, url: str) -> int:
        """The status that a URL of this machine answers with."""
        return self.do(request(url, timeout=10))[0]

    @contextmanager
    def running(self) -> Iterator[RealMesh]:
        """Start all, and stop all."""
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        stack = AsyncExitStack()
        try:
            self.do(self._start(stack), within=240)
            yield self
        finally:
            self.do(stack.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _start(self, stack: AsyncExitStack) -> None:
        mesh = self.mesh
        mesh.plan(3, (*FAST, "--faults"))
        stack.push_async_callback(mesh.zipkin.stop)
        stack.push_async_callback(mesh.etcd.stop)
        stack.push_async_callback(mesh.stop_servers)
        await mesh.etcd.start()
        await mesh.zipkin.start()
        for server in mesh.servers:
            await server.start_ready()
        extra = await stack.enter_async_context(controls(mesh.actions(), 0))
        self.client = BookClient(
            self._run_dir,
            *("--calls", "0", "--interval", "50ms", "--timeout", "10s"),
            *("--admin", self.page.split("/")[2], "--admin-actions", "--admin-extra", extra),
            etcd=mesh.etcd.address,
            zipkin=mesh.zipkin.collector,
        )
        stack.push_async_callback(self.client.stop)
        await self.client.start(self._ready, within=60)

    async def _ready(self) -> None:
        try:
            status, text = await request(f"{self.page}readyz")
        except UnreachableError as error:
            raise NotYetError(str(error)) from error
        if status != 200:
            raise NotYetError(text.decode())

    def wait_trace(self, trace_id: str) -> None:
        """Wait until Zipkin has a trace."""
        self.do(self.mesh.zipkin.wait_trace(trace_id, 1, within=20))

    def failed_calls(self) -> list[dict[str, Any]]:
        """The client's log lines of calls that failed."""
        return [call for call in self.client.calls if call["outcome"] != "ok"]

    def wait(self, fits: Any, what: str, within: float = 20) -> None:
        """Wait until a function of this machine's state is true."""

        async def probe() -> None:
            if not fits():
                raise NotYetError("not yet")

        self.do(until(probe, within=within, what=what))


@contextmanager
def real_mesh(run_dir: Path) -> Iterator[RealMesh]:
    """A mesh while the body runs."""
    with RealMesh(run_dir).running() as mesh:
        yield mesh
