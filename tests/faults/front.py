"""Stands in front of a collector, misbehaves as it is told, and remembers every span that the collector has taken."""

import contextlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from opentelemetry.exporter.zipkin.proto.http.v2.gen import zipkin_pb2

# What a misbehaviour may be: the status to answer with at once, or what to do before the collector gets it.
Fault = Callable[[int], int | None]


def no_fault(_: int) -> int | None:
    return None


class Front:
    """An HTTP server on a port of its own.

    Args:
        collector: Where posts go; None: nowhere, they count as taken.
        fault: Asked for each post, counted from 1: a status to answer with instead of passing it on, or None.
        cut: Posts whose connection is cut after the collector has taken them.
    """

    def __init__(self, collector: str | None, fault: Fault = no_fault, cut: frozenset[int] = frozenset()) -> None:
        self.bodies: list[bytes] = []
        self.posts = 0
        self._seen: Counter[bytes] = Counter()
        self._collector = collector
        self._fault = fault
        self._cut = cut
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/v2/spans"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def resent(self) -> int:
        """Posts whose very bytes had come before."""
        return sum(count - 1 for count in self._seen.values())

    def stored(self) -> set[bytes]:
        """The ids of all spans that the collector has taken."""
        return {span.id for body in self.bodies for span in zipkin_pb2.ListOfSpans.FromString(body).spans}

    def _take(self, body: bytes) -> tuple[int, bool]:
        with self._lock:
            self.posts += 1
            number = self.posts
            self._seen[body] += 1
        status = self._fault(number)
        if status is None:
            status = self._pass_on(body) if self._collector else 202
        if status < 300:
            with self._lock:
                self.bodies.append(body)
        return status, number in self._cut

    def _pass_on(self, body: bytes) -> int:
        where = urlsplit(self._collector or "")
        assert where.hostname
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=5)
        try:
            connection.request("POST", where.path, body, {"content-type": "application/x-protobuf"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0  # Nobody there: the connection is cut.
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, cut = front._take(body)
                if cut or not status:
                    self.close_connection = True
                    return
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def slow(seconds: float) -> Fault:
    def wait(_: int) -> int | None:
        time.sleep(seconds)
        return None

    return wait


def overloaded(posts: int) -> Fault:
    """The first so many posts are answered with 503."""
    return lambda number: 503 if number <= posts else None


def away_half_of_every_second(_: int) -> int | None:
    """Like a collector that restarts again and again: connections are cut, then it takes what has been waiting."""
    return 0 if time.monotonic() % 1 < 0.5 else None
