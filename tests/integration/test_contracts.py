"""What others read of the programs (spans, headers, keys, log lines), against the golden files of tests/golden."""

import re
from pathlib import Path
from typing import Any

import grpc
from book_pb2 import BookInfo, BookInfoParams, BookList, BookListParams
from book_pb2_grpc import BookServiceServicer, add_BookServiceServicer_to_server

from localmesh.components import FAST, BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.ports import free_port
from localmesh.program import Program
from meshkit.etcd import EtcdClient
from tests.support.golden import check_golden

PREFIX = "/services/book/"


async def test_spans_of_a_call_a_retried_call_and_refused_calls(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, zipkin: ZipkinServer
) -> None:
    where: dict[str, Any] = {"etcd": etcd.address, "zipkin": zipkin.collector}
    dead = f"127.0.0.1:{free_port()}"
    refused = BookClient(
        run_dir, "--calls", "2", "--timeout", "500ms", "--breaker-volume", "1", **where, name="refused"
    )
    refused.spawn()
    assert await refused.wait() == 1
    async with BookServer(run_dir, *FAST, **where) as server:
        plain = BookClient(run_dir, "--calls", "1", **where, name="plain")
        plain.spawn()
        assert await plain.wait() == 0
        await etcd_client.put(PREFIX + dead, dead)
        # Round robin: of two calls in a row, at least one begins at the dead instance.
        retrying = BookClient(run_dir, "--calls", "2", **where, name="retrying")
        retrying.spawn()
        assert await retrying.wait() == 0
        retried = next(call for call in retrying.calls if call["attempts"] == 2)
        names = {server.address: "server", dead: "dead"}
        traces = {
            "a call": await zipkin.wait_trace(plain.calls[0]["trace_id"], 5),
            "a call whose first instance is dead": await zipkin.wait_trace(retried["trace_id"], 6),
            "a call that finds no instance": await zipkin.wait_trace(refused.calls[0]["trace_id"], 1),
            "a call that the open breaker refuses": await zipkin.wait_trace(refused.calls[1]["trace_id"], 1),
        }
    check_golden("spans", {title: tree(spans, names) for title, spans in traces.items()})


async def test_the_key_in_etcd_and_the_headers_of_a_call(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient
) -> None:
    async with BookServer(run_dir, *FAST, etcd=etcd.address) as server:
        listing = await etcd_client.list("/")
        registrations = {
            item.key.replace(server.address, "HOST:PORT"): item.value.replace(server.address, "HOST:PORT")
            for item in listing.items
        }
        assert all(item.lease for item in listing.items)
    listener = grpc.aio.server()
    listening = Listening()
    add_BookServiceServicer_to_server(listening, listener)
    address = f"127.0.0.1:{listener.add_insecure_port('127.0.0.1:0')}"
    await listener.start()
    try:
        await etcd_client.put(PREFIX + address, address)
        for zipkin in (f"http://127.0.0.1:{free_port()}/api/v2/spans", "off"):
            client = BookClient(run_dir, "--calls", "1", etcd=etcd.address, zipkin=zipkin)
            client.spawn()
            assert await client.wait() == 0
    finally:
        await listener.stop(0)
    sampled, unsampled = listening.headers[:2], listening.headers[2:]
    check_golden("wire", {"registrations": registrations, "headers": sampled, "headers with --zipkin off": unsampled})


class Listening(BookServiceServicer):
    """Answers, and remembers which trace headers it was sent, each hexadecimal digit as an x."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []

    async def GetBookInfo(self, request: BookInfoParams, context: Any) -> BookInfo:  # noqa: N802
        self._note(context)
        return BookInfo(book_id=request.book_id)

    async def GetBookList(self, request: BookListParams, context: Any) -> BookList:  # noqa: N802
        self._note(context)
        return BookList()

    def _note(self, context: Any) -> None:
        metadata = sorted(context.invocation_metadata())
        self.headers.append(
            {
                name: re.sub("[0-9a-f]", "x", value) if len(value) > 1 else value
                for name, value in metadata
                if "b3" in name
            }
        )


async def test_log_lines_of_a_run_from_start_to_end(run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer) -> None:
    where: dict[str, Any] = {"etcd": etcd.address, "zipkin": zipkin.collector}
    async with BookServer(run_dir, *FAST, **where) as server:
        client = BookClient(run_dir, "--calls", "2", **where)
        client.spawn()
        assert await client.wait() == 0
    check_golden(
        "log_lines_of_a_run",
        {
            name: dict(map(shape, program.events()))
            for name, program in (("book-server", server), ("book-client", client))
        },
    )


async def test_log_lines_of_faults(run_dir: Path) -> None:
    """Only the events that are waited for are compared: what else is logged depends on how fast this machine is."""
    etcd = EtcdServer(run_dir)
    where: dict[str, Any] = {"etcd": etcd.address, "zipkin": f"http://127.0.0.1:{free_port()}/api/v2/spans"}
    server = BookServer(run_dir, *FAST, "--lease-ttl", "2", **where)
    patient = ("--calls", "0", "--interval", "20ms", "--timeout", "300ms", "--breaker-volume", "1000000")
    client = BookClient(run_dir, *patient, "--log-level", "debug", **where)
    forgetful = BookClient(run_dir, *patient, "--invalidate-after", "100ms", **where, name="forgetful")
    server_lines, client_lines = Lines(server), Lines(client)
    try:
        server.spawn()
        await server_lines.wait("listening", "registration failed")
        async with client:
            await client_lines.wait("instances may be stale", "no instance of the service is known", "call")
            async with forgetful:
                forgetful_lines = Lines(forgetful)
                await forgetful_lines.wait("instances invalidated")
            await etcd.start()
            await server_lines.wait("registered")
            await client_lines.wait("instances are up to date again", "instances changed", "picked")
            async with EtcdClient([etcd.address]) as etcd_client:
                await etcd_client.put(PREFIX + "nowhere", "nowhere")
                await client_lines.wait("registration ignored")
                successor = await etcd_client.grant(60)
                await etcd_client.put(PREFIX + server.address, server.address, successor.id)
                await server_lines.wait("registration lost, registering again", "key belongs to a successor, waiting")
                await etcd_client.revoke(successor.id)
                await client_lines.wait("no instance listed any more, keeping the last")
                await server.wait_event("registered", count=2)
            await etcd.process.kill()
            await server_lines.wait("lease not renewed, trying on")
            await server.kill()
            await client_lines.wait("instance ejected")
            server.spawn()
            await client_lines.wait("instance back", "spans not sent, trying again")
            await server.stop()
            await server_lines.wait("leaving", "lease not revoked, it ends by itself", "stopped")
            await client.stop()
            await client_lines.wait("spans given up", "spans dropped", "spans", "summary")
    finally:
        await server.stop()
        await etcd.stop()
    check_golden(
        "log_lines_of_faults",
        {"book-server": server_lines.shapes, "book-client": client_lines.shapes | forgetful_lines.shapes},
    )


class Lines:
    """The shapes of a program's log lines, of those events that were waited for."""

    def __init__(self, program: Program) -> None:
        self.shapes: dict[str, str] = {}
        self._program = program

    async def wait(self, *events: str) -> None:
        for event in events:
            self.shapes.setdefault(*shape(await self._program.wait_event(event)))


def shape(entry: dict[str, Any]) -> tuple[str, str]:
    """A log line's event, with its level and the names of its fields in order."""
    return entry["event"], f"{entry['level']}: {' '.join(entry)}"


def tree(spans: list[dict[str, Any]], names: dict[str, str]) -> dict[str, Any]:
    """The spans of one trace, each below its parent in the order of their beginnings, without what is never the same.

    Args:
        spans: As Zipkin's API gives them.
        names: What to call an address, `host:port`.
    """
    ports = {address.rpartition(":")[2]: f"<{name}'s port>" for address, name in names.items()}

    def endpoint(of: dict[str, Any]) -> dict[str, Any]:
        return {name: ports.get(str(value), value) for name, value in of.items()}

    def below(parent: str | None) -> list[dict[str, Any]]:
        children = [span for span in spans if span.get("parentId") == parent]
        return [node(span) for span in sorted(children, key=lambda span: int(span["timestamp"]))]

    def node(span: dict[str, Any]) -> dict[str, Any]:
        tags = {name: ports.get(value, value) for name, value in span.get("tags", {}).items()}
        if "error" in tags:
            # The status; what follows is a text for people.
            tags["error"] = tags["error"].partition(":")[0]
        if "service.instance.id" in tags:
            tags |= {"service.instance.id": "<random>", "service.version": "<its version>"}
        facts = {
            "name": span["name"],
            "kind": span.get("kind"),
            "localEndpoint": endpoint(span.get("localEndpoint", {})),
            "remoteEndpoint": endpoint(span.get("remoteEndpoint", {})),
            "tags": tags,
            "annotations": [note["value"] for note in span.get("annotations", ())],
            "children": below(span["id"]),
        }
        return {name: fact for name, fact in facts.items() if fact}

    (root,) = below(None)
    return root
