"""The chart's gate before Zipkin: it passes on what comes, and when it is told to stop, all connections end at once."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from localmesh.ports import free_port
from tests.e2e.harness.waiting import NotYetError, until
from tests.support.chart import CHART

BODY = os.urandom(1 << 20)
PATIENCE = 20.0


@contextmanager
def gate(to: int) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    command = [sys.executable, str(CHART / "files/gate.py"), str(port), str(to)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def listens() -> None:
        try:
            socket.create_connection(("localhost", port), timeout=PATIENCE).close()
        except OSError as error:
            raise NotYetError(f"{error}, exit status {process.poll()}") from error

    try:
        until(listens, within=PATIENCE, what="the gate")
        yield process, port
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def inside() -> Iterator[socket.socket]:
    """A server in Zipkin's place."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)
        yield server


def join(port: int, inside: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Connect through the gate: both ends."""
    caller = socket.create_connection(("localhost", port), timeout=PATIENCE)
    caller.sendall(b"!")
    while True:
        called, _ = inside.accept()
        called.settimeout(PATIENCE)
        # Those that asked whether the gate listens went without a word.
        if called.recv(1):
            return caller, called
        called.close()


def has_ended(connection: socket.socket) -> bool:
    with connection:
        try:
            return connection.recv(1) == b""
        except ConnectionError:
            return True


def receive(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size and (data := connection.recv(1 << 16)):
        received += data
    return bytes(received)


def test_what_comes_goes_through_both_ways(inside: socket.socket) -> None:
    with gate(inside.getsockname()[1]) as (_, port):
        caller, called = join(port, inside)
        for source, target in ((caller, called), (called, caller)):
            sending = threading.Thread(target=source.sendall, args=(BODY,))
            sending.start()
            assert receive(target, len(BODY)) == BODY
            sending.join(PATIENCE)
        called.close()
        assert has_ended(caller), "either's end is the end of both"


def test_told_to_stop_it_ends_all_connections_and_says_nothing(inside: socket.socket) -> None:
    with gate(inside.getsockname()[1]) as (process, port):
        caller, called = join(port, inside)
        process.send_signal(signal.SIGTERM)
        assert [has_ended(end) for end in (caller, called)] == [True, True]
        assert process.wait(PATIENCE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("localhost", port), timeout=PATIENCE)


def test_who_comes_while_zipkin_is_not_there_is_cut_off_and_others_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        to = taken.getsockname()[1]
    with gate(to) as (process, port):
        assert has_ended(socket.create_connection(("localhost", port), timeout=PATIENCE))
        with socket.create_server(("127.0.0.1", to)) as inside:
            inside.settimeout(PATIENCE)
            for end in join(port, inside):
                end.close()
        assert process.poll() is None
