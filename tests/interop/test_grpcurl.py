"""grpcurl, the tool that gRPC's users reach for: reflection, calls and streams of the mesh's servers."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from route_guide_pb2_grpc import add_RouteGuideServicer_to_server

from localmesh.components import FAST, TOOLS, BookServer, EtcdServer, ZipkinServer
from localmesh.ports import free_port
from localmesh.process import Process
from meshkit import Mesh
from tests.support.example_services import RouteGuide

SPAN = "a2fb4a1d1a96d312"


async def grpcurl(run_dir: Path, *arguments: str, status: int = 0) -> str:
    """What it prints; it has to end with that status."""
    process = Process("grpcurl", [TOOLS / "bin/grpcurl", "-plaintext", "-max-time", "20", *arguments], run_dir=run_dir)
    async with process:
        assert await process.wait() == status, process.last_words()
    return process.output()


def messages(text: str) -> list[Any]:
    """JSON objects, one after the other."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        message, end = decoder.raw_decode(rest)
        found.append(message)
        rest = rest[end:].strip()
    return found


async def test_grpcurl_lists_describes_and_calls_the_book_service(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    async with BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=zipkin.collector) as server:
        listed = await grpcurl(run_dir, server.address, "list")
        assert listed.split() == ["BookService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"]
        described = await grpcurl(run_dir, server.address, "describe", "BookService.GetBookInfo")
        assert "rpc GetBookInfo ( .BookInfoParams ) returns ( .BookInfo )" in described
        healthy = await grpcurl(
            run_dir, "-d", '{"service": "BookService"}', server.address, "grpc.health.v1.Health/Check"
        )
        assert messages(healthy) == [{"status": "SERVING"}]
        trace_id = secrets.token_hex(16)
        flags = ("-H", f"b3: {trace_id}-{SPAN}-1", "-d", '{"book_id": 7}')
        answer = await grpcurl(run_dir, *flags, server.address, "BookService/GetBookInfo")
        assert messages(answer) == [{"book_id": 7, "book_name": "Go入门系列"}]
        (span,) = await zipkin.wait_trace(trace_id, 1)
        assert (span["kind"], span["parentId"]) == ("SERVER", SPAN)
        refused = await grpcurl(run_dir, "-d", '{"book_id": -1}', server.address, "BookService/GetBookInfo", status=67)
        assert "Code: InvalidArgument" in refused


async def test_grpcurl_streams_in_every_direction_and_each_stream_is_a_span(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    address, guide = f"127.0.0.1:{free_port()}", RouteGuide(features=4)
    mesh = Mesh("guide", address=address, etcd=[etcd.address], zipkin=zipkin.collector)
    trace_id = secrets.token_hex(16)
    flags = ("-H", f"b3: {trace_id}-{SPAN}-1")

    async def call(method: str, *sent: object) -> list[Any]:
        body = "".join(map(json.dumps, sent))
        return messages(await grpcurl(run_dir, *flags, "-d", body, address, f"routeguide.RouteGuide/{method}"))

    async with mesh, mesh.serve(lambda server: add_RouteGuideServicer_to_server(guide, server), drain=0.0):  # type: ignore[no-untyped-call]
        assert "routeguide.RouteGuide" in (await grpcurl(run_dir, address, "list")).split()
        point, notes = {"latitude": 2, "longitude": 2}, [{"message": f"note {number}"} for number in range(3)]
        assert await call("GetFeature", point) == [{"name": "2", "location": point}]
        assert [feature["name"] for feature in await call("ListFeatures", {})] == ["0", "1", "2", "3"]
        assert await call("RecordRoute", point, point, point) == [{"point_count": 3}]
        assert await call("RouteChat", *notes) == notes
        spans = await zipkin.wait_trace(trace_id, 4)
    assert {(span["kind"], span["parentId"]) for span in spans} == {("SERVER", SPAN)}
    methods = ("getfeature", "listfeatures", "recordroute", "routechat")
    assert {span["name"] for span in spans} == {f"routeguide.routeguide/{method}" for method in methods}
