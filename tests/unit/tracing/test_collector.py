"""Collectors that answer as no collector should, over a socket pair: the head of an answer is read, and no more."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress

import pytest

from meshkit.errors import CollectorUnavailableError
from meshkit.tracing.collector import Collector, shown_url

URL = "http://user:S3cret@127.0.0.1:9411/api/v2/spans?api_key=K3Y"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


class Peers:
    """The other ends of the connections that a collector's client has made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[socket.socket] = []
        self._behaviour: Callable[[socket.socket], None] = lambda peer: None
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(Collector, "_connect", self._connect)

    def behave(self, behaviour: Callable[[socket.socket], None]) -> None:
        self._behaviour = behaviour

    def _connect(self, *_: object) -> socket.socket:
        ours, peer = socket.socketpair()
        peer.settimeout(10)
        self.made.append(peer)
        threading.Thread(target=self._serve, args=(peer,), daemon=True).start()
        return ours

    def _serve(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            self._behaviour(peer)


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Peers:
    return Peers(monkeypatch)


def collector(timeout: float = 10.0) -> Collector:
    return Collector(URL, "application/x-protobuf", timeout=timeout)


def request(peer: socket.socket) -> bytes:
    """A request with a body of `spans`."""
    read = b""
    while not read.endswith(b"\r\n\r\nspans"):
        more = peer.recv(65536)
        if not more:
            raise ConnectionError("no request")
        read += more
    return read


def test_what_is_sent_is_a_post_with_the_login_and_the_query(peers: Peers) -> None:
    seen: list[bytes] = []

    def accept(peer: socket.socket) -> None:
        seen.append(request(peer))
        peer.sendall(ACCEPTED)

    peers.behave(accept)
    with closing(collector()) as client:
        assert client.post(b"spans") == (202, "Accepted", b"")
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "POST /api/v2/spans?api_key=K3Y HTTP/1.1"
    assert {"Host: 127.0.0.1:9411", "Content-Length: 5", "Authorization: Basic dXNlcjpTM2NyZXQ="} <= set(lines)


def test_a_connection_is_kept_and_made_anew_where_it_was_closed_meanwhile(peers: Peers) -> None:
    def accept_two(peer: socket.socket) -> None:
        for _ in range(2):
            request(peer)
            peer.sendall(ACCEPTED)

    peers.behave(accept_two)
    with closing(collector()) as client:
        assert [client.post(b"spans")[0] for _ in range(4)] == [202] * 4
    assert len(peers.made) == 2


def test_a_short_body_is_read_and_the_connection_kept(peers: Peers) -> None:
    def say(peer: socket.socket) -> None:
        for _ in range(2):
            request(peer)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{")
            time.sleep(0.01)
            peer.sendall(b"}")

    peers.behave(say)
    with closing(collector()) as client:
        assert [client.post(b"spans") for _ in range(2)] == [(200, "OK", b"{}")] * 2
    assert len(peers.made) == 1


def test_a_long_body_is_not_read(peers: Peers) -> None:
    def say(peer: socket.socket) -> None:
        request(peer)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")

    peers.behave(say)
    assert collector().post(b"spans") == (200, "OK", b"")


def test_headers_of_ones_own_are_sent(peers: Peers) -> None:
    seen: list[bytes] = []

    def accept(peer: socket.socket) -> None:
        seen.append(request(peer))
        peer.sendall(ACCEPTED)

    peers.behave(accept)
    with closing(Collector(URL, "application/json", headers={"api-key": "K3Y"})) as client:
        client.post(b"spans")
    assert b"\r\napi-key: K3Y\r\n" in seen[0]


def endless(peer: socket.socket) -> None:
    request(peer)
    peer.sendall(b"HTTP/1.1 202 Accepted\r\n\r\n")
    while True:
        peer.sendall(b"x" * 65536)


def test_an_answer_without_an_end_is_not_read(peers: Peers) -> None:
    peers.behave(endless)
    client = collector()
    assert [client.post(b"spans")[0] for _ in range(3)] == [202] * 3
    assert len(peers.made) == 3


def drip(peer: socket.socket) -> None:
    request(peer)
    for each in ACCEPTED:
        peer.sendall(bytes([each]))
        time.sleep(0.1)


def say_nothing(peer: socket.socket) -> None:
    peer.recv(1)
    threading.Event().wait(5)


def go_on_for_ever(peer: socket.socket) -> None:
    request(peer)
    while True:
        peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize("behaviour", [drip, say_nothing, go_on_for_ever])
def test_the_time_limit_holds_for_all_of_it(peers: Peers, behaviour: Callable[[socket.socket], None]) -> None:
    peers.behave(behaviour)
    start = time.monotonic()
    with pytest.raises(CollectorUnavailableError, match=r"no answer within 0\.3 s|timed out"):
        collector(timeout=0.3).post(b"spans")
    assert time.monotonic() - start < 3


def test_one_that_reads_nothing_is_given_up_too(peers: Peers) -> None:
    peers.behave(say_nothing)
    with pytest.raises(CollectorUnavailableError, match=r"no answer within 0\.3 s|timed out"):
        collector(timeout=0.3).post(b"x" * 10_000_000)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "closed before an answer"),
        (b"HTTP/1.1 202 Acc", "closed before an answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 999 What\r\n\r\n", "not HTTP"),
        (b"x" * 100_000, "not HTTP"),
    ],
)
def test_what_is_no_answer_is_an_error_without_secrets(peers: Peers, answer: bytes, why: str) -> None:
    def behaviour(peer: socket.socket) -> None:
        request(peer)
        peer.sendall(answer)

    peers.behave(behaviour)
    with pytest.raises(CollectorUnavailableError, match=why) as raised:
        collector().post(b"spans")
    assert str(raised.value).startswith("http://127.0.0.1:9411/api/v2/spans: ")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: /zipkin/\r\nContent-Length: 0\r\n\r\n", (302, "Found")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTED, (202, "Accepted")),
        (b"HTTP/1.0 503\r\n\r\n", (503, "")),
        (b"HTTP/1.1 500 " + b"x" * 5000 + b"\r\n\r\n", (500, "x" * 100)),
    ],
)
def test_the_status_is_told(peers: Peers, head: bytes, status: tuple[int, str]) -> None:
    def behaviour(peer: socket.socket) -> None:
        request(peer)
        peer.sendall(head)

    peers.behave(behaviour)
    with closing(collector()) as client:
        assert client.post(b"spans")[:2] == status


def test_of_a_url_scheme_host_port_and_path_are_shown() -> None:
    assert shown_url(URL) == "http://127.0.0.1:9411/api/v2/spans"
    assert shown_url("https://[::1]/#x") == "https://[::1]/"


@pytest.mark.parametrize("url", ["ftp://host/", "http://", "http://host/a b", "http://hôst/"])
def test_no_other_url_is_taken(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL"):
        Collector(url, "text/plain")
