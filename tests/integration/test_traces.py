"""One call, one whole trace: read back from a real Zipkin."""

import secrets
from pathlib import Path
from typing import Any

import grpc

from localmesh.components import FAST, BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.ports import free_port
from meshkit.etcd import EtcdClient
from tests.support.unary import Unary

PREFIX = "/services/book/"


async def run_client(client: BookClient) -> int:
    client.spawn()
    return await client.wait()


def by_kind(spans: list[dict[str, Any]], kind: str | None) -> dict[str, dict[str, Any]]:
    return {span["name"]: span for span in spans if span.get("kind") == kind}


async def test_one_call_is_exactly_5_spans_of_one_tree(run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer) -> None:
    async with BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=zipkin.collector) as server:
        client = BookClient(run_dir, "--calls", "1", etcd=etcd.address, zipkin=zipkin.collector)
        assert await run_client(client) == 0
        spans = await zipkin.wait_trace(client.calls[0]["trace_id"], 5)

        assert len(spans) == 5
        assert {span["traceId"] for span in spans} == {client.calls[0]["trace_id"]}
        (root,) = (span for span in spans if "parentId" not in span)
        assert root["name"] == "bookcaller"
        assert "kind" not in root
        clients, servers = by_kind(spans, "CLIENT"), by_kind(spans, "SERVER")
        assert set(clients) == set(servers) == {"bookservice/getbookinfo", "bookservice/getbooklist"}
        for name in clients:
            client_span, server_span = clients[name], servers[name]
            assert client_span["parentId"] == root["id"]
            assert server_span["parentId"] == client_span["id"]
            assert client_span["localEndpoint"] == {"serviceName": "book-client", "ipv4": "127.0.0.1"}
            assert client_span["remoteEndpoint"] == {"ipv4": "127.0.0.1", "port": server.port}
            assert server_span["localEndpoint"] == {
                "serviceName": "book-server",
                "ipv4": "127.0.0.1",
                "port": server.port,
            }
            method = {"bookservice/getbookinfo": "GetBookInfo", "bookservice/getbooklist": "GetBookList"}[name]
            rpc = {
                "rpc.system": "grpc",
                "rpc.service": "BookService",
                "rpc.method": method,
                "rpc.grpc.status_code": "0",
            }
            assert server_span["tags"] == rpc
            assert client_span["tags"] == {
                **rpc,
                "attempt": "1",
                "server.address": "127.0.0.1",
                "server.port": str(server.port),
            }
        for span in spans:
            assert "debug" not in span
            assert "shared" not in span
            assert "error" not in span.get("tags", {})
            assert root["timestamp"] <= span["timestamp"]
            assert span["timestamp"] + span["duration"] <= root["timestamp"] + root["duration"] + 1000


async def test_a_call_whose_first_instance_is_dead_is_one_trace_with_the_failed_attempt(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, zipkin: ZipkinServer
) -> None:
    dead = f"127.0.0.1:{free_port()}"
    await etcd_client.put(PREFIX + dead, dead)
    async with BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=zipkin.collector) as server:
        # Round robin: of two calls in a row, at least one begins at the dead instance.
        client = BookClient(run_dir, "--calls", "2", etcd=etcd.address, zipkin=zipkin.collector)
        assert await run_client(client) == 0
        retried = next(call for call in client.calls if call["attempts"] == 2)
        assert retried["instance"] == server.address
        spans = await zipkin.wait_trace(retried["trace_id"], 6)

    assert len(spans) == 6
    (root,) = (span for span in spans if "parentId" not in span)
    (failed,) = (span for span in spans if "error" in span.get("tags", {}))
    assert failed["kind"] == "CLIENT"
    assert failed["parentId"] == root["id"]
    assert failed["remoteEndpoint"]["port"] == int(dead.rpartition(":")[2])
    assert failed["tags"]["rpc.grpc.status_code"] == str(grpc.StatusCode.UNAVAILABLE.value[0])
    assert failed["tags"]["error"].startswith("UNAVAILABLE")
    assert failed["tags"]["attempt"] == "1"
    others = [span for span in spans if span.get("kind") == "CLIENT" and span is not failed]
    assert {span["tags"]["attempt"] for span in others} == {"2"}


async def test_a_refused_call_has_its_trace_too(run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer) -> None:
    client = BookClient(
        run_dir,
        *("--calls", "2", "--timeout", "500ms", "--breaker-volume", "1"),
        etcd=etcd.address,
        zipkin=zipkin.collector,
    )
    assert await run_client(client) == 1
    no_endpoints, breaker_open = client.calls
    for call, reason in ((no_endpoints, "no instance of the service is known"), (breaker_open, "is open")):
        assert call["outcome"] == "UNAVAILABLE"
        (root,) = await zipkin.wait_trace(call["trace_id"], 1)
        assert root["name"] == "bookcaller"
        assert reason in root["tags"]["error"]


async def test_the_server_continues_a_stock_clients_trace(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    async with (
        BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=zipkin.collector) as server,
        Unary(server.address) as client,
    ):
        for trace_id in (secrets.token_hex(8), secrets.token_hex(16)):
            headers = {"x-b3-traceid": trace_id, "x-b3-spanid": "a2fb4a1d1a96d312", "x-b3-sampled": "1"}
            await client.call("/BookService/GetBookInfo", metadata=headers)
            (span,) = await zipkin.wait_trace(trace_id, 1)
            assert span["traceId"] == trace_id
            assert span["parentId"] == "a2fb4a1d1a96d312"
            assert span["kind"] == "SERVER"


async def test_sampled_0_leaves_no_span_and_malformed_headers_never_fail_a_call(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    async with (
        BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=zipkin.collector) as server,
        Unary(server.address) as client,
    ):
        dropped, kept, debugged = (secrets.token_hex(16) for _ in range(3))
        ids = {"x-b3-spanid": "a2fb4a1d1a96d312"}
        await client.call("/BookService/GetBookInfo", metadata={**ids, "x-b3-traceid": dropped, "x-b3-sampled": "0"})
        await client.call("/BookService/GetBookInfo", metadata={**ids, "x-b3-traceid": "not hex", "b3": "----"})
        await client.call("/BookService/GetBookInfo", metadata={"b3": f"{kept}-a2fb4a1d1a96d312-1"})
        await client.call("/BookService/GetBookInfo", metadata={**ids, "x-b3-traceid": debugged, "x-b3-flags": "1"})
        (debug_span,) = await zipkin.wait_trace(debugged, 1)
        assert debug_span["debug"] is True
        (kept_span,) = await zipkin.wait_trace(kept, 1)
        assert "debug" not in kept_span
        # Sent in order: had there been a span of the first call, it would be there by now.
        assert await zipkin.trace(dropped) == []


async def test_a_request_that_is_refused_is_no_failure_of_the_server(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    async with (
        BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=zipkin.collector) as server,
        Unary(server.address) as client,
    ):
        trace_id = secrets.token_hex(16)
        headers = {"b3": f"{trace_id}-a2fb4a1d1a96d312-1"}
        negative = bytes.fromhex("08ffffffffffffffffff01")
        status = await client.status("/BookService/GetBookInfo", negative, metadata=headers)
        assert status is grpc.StatusCode.INVALID_ARGUMENT
        (span,) = await zipkin.wait_trace(trace_id, 1)
        assert span["tags"]["rpc.grpc.status_code"] == "3"
        assert "error" not in span["tags"]
