"""A collector that is down, or overloaded, is no concern of the calls."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from localmesh.components import FAST, BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.lines import logged_at
from localmesh.ports import free_port


class Overloaded(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(params=["down", "answers 503", "hangs"])
def collector(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "down":
        yield f"http://127.0.0.1:{free_port()}/api/v2/spans"
        return
    if request.param == "hangs":
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield f"http://127.0.0.1:{silent.getsockname()[1]}/api/v2/spans"
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), Overloaded) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/v2/spans"
        server.shutdown()
        thread.join()


async def test_calls_go_on_drops_are_counted_and_the_exit_is_quick(
    run_dir: Path, etcd: EtcdServer, collector: str
) -> None:
    async with BookServer(run_dir, *FAST, etcd=etcd.address) as server:
        client = BookClient(run_dir, "--calls", "100", etcd=etcd.address, zipkin=collector)
        client.spawn()
        assert await client.wait() == 0
        assert client.summary["calls"] == 100
        assert client.summary["failures"] == 0
        assert logged_at(client.summary) - logged_at(client.calls[-1]) <= 5
        # 3 of a call's 5 spans are the client's.
        drops = client.events("spans dropped")
        assert drops[-1]["dropped_in_all"] == 300
        assert len(drops) <= 2
        assert await server.stop() == 0


async def test_a_zipkin_that_comes_up_late_gets_the_spans_of_the_calls_before(run_dir: Path, etcd: EtcdServer) -> None:
    zipkin = ZipkinServer(run_dir)
    async with BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=zipkin.collector):
        client = BookClient(run_dir, "--calls", "0", "--interval", "1s", etcd=etcd.address, zipkin=zipkin.collector)
        async with client:
            first = await client.wait_event("call")
            async with zipkin:
                assert len(await zipkin.wait_trace(first["trace_id"], 5)) == 5
                assert await client.stop() == 0


async def test_each_failed_try_to_send_spans_is_logged_at_debug_only(run_dir: Path, etcd: EtcdServer) -> None:
    away = f"http://127.0.0.1:{free_port()}/api/v2/spans"
    async with BookServer(run_dir, *FAST, etcd=etcd.address):
        reasons = {}
        for level in ("info", "debug"):
            client = BookClient(
                run_dir, "--calls", "1", "--log-level", level, etcd=etcd.address, zipkin=away, name=f"client-{level}"
            )
            client.spawn()
            assert await client.wait() == 0
            assert len(client.calls) == len(client.events("picked")) == 1
            reasons[level] = [entry["reason"] for entry in client.events("spans not sent, trying again")]
    assert reasons["info"] == []
    assert "refused" in reasons["debug"][0]
