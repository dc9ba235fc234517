"""The programs in examples/, run as they stand but for where etcd, Zipkin and they listen."""

import os
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from localmesh.components import EtcdServer, ZipkinServer
from localmesh.process import Process
from localmesh.waiting import NotYetError, until

__all__ = ["EXAMPLES", "ExamplePrograms", "lost_spans", "serving"]

EXAMPLES = Path(__file__).parents[2] / "examples"
# Which Python runs them: `make beside` has those that have the toolkit's wheel, beside other packages than here.
PYTHON = os.environ.get("EXAMPLES_PYTHON", sys.executable)


class ExamplePrograms:
    """Makes processes of them."""

    def __init__(self, run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer) -> None:
        self._run_dir = run_dir
        self._etcd = etcd
        self._zipkin = zipkin

    def __call__(self, path: str, name: str, *arguments: str) -> Process:
        """The program at `path` below examples/, not yet started."""
        script = self._run_dir / path.replace("/", "-")
        text = (EXAMPLES / path).read_text().replace("http://127.0.0.1:9411", self._zipkin.url)
        # Some name etcd's usual address, others leave it to the default.
        if "127.0.0.1:2379" in text:
            text = text.replace("127.0.0.1:2379", self._etcd.address)
        else:
            text = text.replace("zipkin=", f'etcd=["{self._etcd.address}"], zipkin=')
        # A server that is frozen stays registered for as long as a busy machine needs to start a client.
        script.write_text(text.replace("Registrar(etcd, PREFIX, address)", "Registrar(etcd, PREFIX, address, ttl=120)"))
        return Process(name, [PYTHON, script, *arguments], run_dir=self._run_dir)


@asynccontextmanager
async def serving(servers: Collection[Process]) -> AsyncIterator[None]:
    """Start them, and wait until each says that it is ready."""
    async with AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)

        async def ready() -> None:
            if waiting := [server.output() for server in servers if "ready" not in server.output()]:
                raise NotYetError(f"not ready: {waiting}")

        await until(ready, within=60, what="the servers ready")
        yield


def lost_spans(spans: Iterable[Mapping[str, Any]], killed: str) -> list[Mapping[str, Any]]:
    """Those of a trace whose parent is missing, all of them the killed program's (`host:port`): it died with it."""
    spans = list(spans)
    known = {span["id"] for span in spans}
    lost = [span for span in spans if span.get("parentId", span["id"]) not in known]
    assert all(f"{span['localEndpoint']['ipv4']}:{span['localEndpoint']['port']}" == killed for span in lost), lost
    return lost
