"""Services of others as child processes: go-kit with zipkin-go, and OpenTelemetry's instrumentation for grpc.aio."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from localmesh.components import ROOT, TOOLS
from localmesh.ports import free_port
from localmesh.process import Process
from localmesh.waiting import NotYetError

__all__ = ["PEERS", "Peer", "PeerServer", "trace_of_a_call"]

WITHIN = 60.0
STOCK = (TOOLS / "bench-env/bin/python", Path(__file__).with_name("stock.py"))
GO_KIT = (TOOLS / "bin/gokit",)


@dataclass(frozen=True)
class Peer:
    """Somebody else's stack.

    Args:
        name: For the table, with its versions.
        command: The program; it serves, passes on and calls as tests/interop/stock.py says.
        understands: The `--propagators` whose headers it can read.
        env: Environment variables.
    """

    name: str
    command: Sequence[Path]
    understands: frozenset[str]
    env: Mapping[str, str] = field(default_factory=dict)


def _version(file: str, pattern: str) -> str:
    found = re.search(pattern, (ROOT / file).read_text(), re.MULTILINE)
    assert found, f"{file} has no {pattern}"
    return found[1]


def _go(module: str) -> str:
    return _version("tests/interop/gokit/go.mod", rf"^\s*{re.escape(module)} v(\S+)$")


def _stock(propagators: str, understands: set[str]) -> Peer:
    version = _version("requirements/bench.lock", r"^opentelemetry-instrumentation-grpc==(\S+)")
    env = {"PYTHONPATH": str(ROOT / "proto"), **({"OTEL_PROPAGATORS": propagators} if propagators else {})}
    told = f"`OTEL_PROPAGATORS={propagators}`" if propagators else "as it comes (W3C)"
    name = f"opentelemetry-instrumentation-grpc {version}, {told}"
    return Peer(name, STOCK, frozenset(understands), env)


PEERS = {
    "go-kit": Peer(
        f"go-kit {_go('github.com/go-kit/kit')} with zipkin-go {_go('github.com/openzipkin/zipkin-go')}",
        GO_KIT,
        frozenset({"b3multi"}),
    ),
    "otel": _stock("", {"tracecontext"}),
    "otel-b3": _stock("b3", {"b3", "b3multi"}),
    "otel-b3multi": _stock("b3multi", {"b3", "b3multi"}),
}


class PeerServer:
    """A book service of that stack.

    Args:
        run_dir: For its log.
        name: Of the service in traces.
        zipkin: The collector's URL.
        forward: Where it passes calls on to; by default it answers itself.
    """

    def __init__(self, peer: Peer, run_dir: Path, *, name: str, zipkin: str, forward: str = "") -> None:
        self.name = name
        self.address = f"127.0.0.1:{free_port()}"
        flags = [
            "--zipkin",
            zipkin,
            "--name",
            name,
            "--listen",
            self.address,
            *(["--forward", forward] * bool(forward)),
        ]
        self._process = Process(name, [*peer.command, *flags], run_dir=run_dir, env=peer.env)

    async def _ready(self) -> None:
        if "ready" not in self._process.output():
            raise NotYetError(self._process.last_words())

    async def __aenter__(self) -> Self:
        await self._process.start(self._ready, within=WITHIN)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.stop()


async def trace_of_a_call(peer: Peer, run_dir: Path, *, zipkin: str, address: str) -> str:
    """Let that stack call both methods at an address, in a trace of its own; the trace's id."""
    client = Process(
        "caller",
        [*peer.command, "--zipkin", zipkin, "--name", "caller", "--call", address],
        run_dir=run_dir,
        env=peer.env,
    )
    async with client:
        assert await client.wait() == 0, client.last_words()
    found: str = re.findall(r"^trace ([0-9a-f]{16,32})$", client.output(), re.MULTILINE)[-1]
    return found
