"""Chains of the mesh and of services of others: which headers are understood by whom, and what is one trace then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from book_pb2 import BookInfo, BookList
from book_pb2_grpc import BookServiceServicer, BookServiceStub, add_BookServiceServicer_to_server

from localmesh.components import FAST, ROOT, BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.http import request_json
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from meshkit import Mesh
from meshkit.etcd import EtcdClient
from meshkit.tracing.settings import TraceSettings
from tests.interop.peers import PEERS, PeerServer, trace_of_a_call

# What the mesh may be told to send.
SENT = ("b3multi", "b3", "tracecontext", "b3multi,tracecontext")
ONE, TWO = "one trace", "a new trace"
DOCS = ROOT / "docs/interop.md"


class PassingOn(BookServiceServicer):
    """A service of somebody who uses meshkit: it calls another one through the mesh."""

    def __init__(self, stub: BookServiceStub) -> None:
        self._stub = stub

    async def GetBookInfo(self, request: Any, context: Any) -> BookInfo:  # noqa: N802 - the stub's
        return await self._stub.GetBookInfo(request, wait_for_ready=True)  # type: ignore[no-any-return]

    async def GetBookList(self, request: Any, context: Any) -> BookList:  # noqa: N802
        return await self._stub.GetBookList(request, wait_for_ready=True)  # type: ignore[no-any-return]


@asynccontextmanager
async def mesh_service(etcd: EtcdServer, zipkin: ZipkinServer, propagators: str, behind: str) -> AsyncIterator[str]:
    """A service on meshkit in front of those registered as `behind`; where it listens."""
    settings = TraceSettings(zipkin=zipkin.collector).with_environment({"OTEL_PROPAGATORS": propagators})
    address = f"127.0.0.1:{free_port()}"
    async with (
        Mesh("mesh", address=address, etcd=[etcd.address], settings=settings) as mesh,
        mesh.channel(behind) as channel,
        mesh.serve(
            lambda server: add_BookServiceServicer_to_server(PassingOn(BookServiceStub(channel)), server),
            drain=0.0,
        ),
    ):
        yield address


@pytest.mark.parametrize("kind", PEERS)
async def test_the_mesh_and_a_service_of_others_are_one_trace_where_the_table_says_so(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, zipkin: ZipkinServer, kind: str
) -> None:
    peer = PEERS[kind]
    # Names of their own: Zipkin is shared by all of these tests.
    front, leaf = f"{kind}-front", f"{kind}-leaf"
    async with (
        BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=zipkin.collector) as server,
        PeerServer(peer, run_dir, name=front, zipkin=zipkin.collector, forward=server.address) as middle,
        PeerServer(peer, run_dir, name=leaf, zipkin=zipkin.collector) as end,
    ):
        await etcd_client.put(f"/services/{front}/{middle.address}", middle.address)
        await etcd_client.put(f"/services/{leaf}/{end.address}", end.address)
        row = []
        for number, propagators in enumerate(SENT, 1):
            understood = any(name in peer.understands for name in propagators.split(","))
            flags = ("--propagators", propagators, "--calls", "1", "--etcd-prefix", f"/services/{front}/")
            client = BookClient(run_dir, *flags, etcd=etcd.address, zipkin=zipkin.collector)
            client.spawn()
            assert await client.wait() == 0, client.last_words()
            # The mesh, others, the mesh.
            path = ["book-client", "book-client CLIENT", f"{front} SERVER", f"{front} CLIENT", "book-server SERVER"]
            await paths_in(zipkin, client.calls[0]["trace_id"], path if understood else path[:2])
            async with mesh_service(etcd, zipkin, propagators, leaf) as address:
                called = await trace_of_a_call(peer, run_dir, zipkin=zipkin.collector, address=address)
            # Others, the mesh, others.
            path = ["caller", "caller CLIENT", "mesh SERVER", "mesh CLIENT", f"{leaf} SERVER"]
            await paths_in(zipkin, called, path if understood else path[:4])
            row.append(ONE if understood else TWO)
            new = 2 * row.count(TWO)
            await until(begun(zipkin, front, new), within=20, what=f"{new} traces that begin at {front}, {number} runs")
            await until(begun(zipkin, leaf, new), within=20, what=f"{new} traces that begin at {leaf}, {number} runs")
    line = f"| {peer.name} | {' | '.join([*row, ONE])} |"
    assert line in DOCS.read_text().splitlines(), f"{DOCS.name} is to say: {line}"


async def paths_in(zipkin: ZipkinServer, trace_id: str, expected: Sequence[str]) -> None:
    """Wait until the trace has two leaves, one a method, each at the end of that path, and nothing else."""

    async def probe() -> None:
        found = paths(await zipkin.trace(trace_id))
        if found != [list(expected)] * 2:
            raise NotYetError(found)

    await until(probe, within=20, what=f"trace {trace_id} with twice {' → '.join(expected)}")


def paths(spans: Sequence[dict[str, Any]]) -> list[list[str]]:
    """From the root to each leaf, "service KIND"; spans without their parents are roots."""
    parents = [parent_of(span, spans) for span in spans]
    leaves = [span for span in spans if not any(span is parent for parent in parents)]
    return [path_to(leaf, spans) for leaf in leaves]


def path_to(span: dict[str, Any], spans: Sequence[dict[str, Any]]) -> list[str]:
    told = f"{span['localEndpoint']['serviceName']} {span.get('kind', '')}".strip()
    parent = parent_of(span, spans)
    return [*(path_to(parent, spans) if parent else ()), told]


def parent_of(span: dict[str, Any], spans: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """A SERVER span that shares its CLIENT's id is that one's child; children of that id are the server's."""
    if span.get("shared"):
        named = [other for other in spans if other["id"] == span["id"] and not other.get("shared")]
    else:
        named = [other for other in spans if other["id"] == span.get("parentId")]
    return max(named, key=lambda other: bool(other.get("shared")), default=None)


def begun(zipkin: ZipkinServer, service: str, count: int) -> Any:
    """For `until`: so many traces begin with a SERVER span of that service."""

    async def probe() -> None:
        query = f"serviceName={service}&limit=1000&lookback=3600000"
        traces = await request_json(f"{zipkin.url}/api/v2/traces?{query}", timeout=10)
        roots = [span for trace in traces for span in trace if "parentId" not in span and not span.get("shared")]
        own = [root for root in roots if root["localEndpoint"]["serviceName"] == service]
        if len(own) != count:
            raise NotYetError(f"{len(own)} traces")

    return probe


def test_the_table_has_a_line_for_each_stack_and_no_other() -> None:
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| ") and ONE in line]
    names = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert sorted(names) == sorted(peer.name for peer in PEERS.values())
