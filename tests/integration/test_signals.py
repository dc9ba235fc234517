"""Signals from a program's first statement to its last, also as process 1 of a container."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from localmesh.components import EtcdServer
from localmesh.ports import free_port
from meshkit.etcd import EtcdClient

SCRIPTS = Path(sys.executable).parent
PREFIX = "/services/book/"
STARTED_WITHIN, ENDED_WITHIN = 30.0, 10.0
AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child")
needs_namespaces = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="namespaces take Linux, and root"
)
# How a program may be started.
WAYS: dict[str, Callable[[str], list[object]]] = {
    "as a script": lambda name: [SCRIPTS / name],
    "as a module": lambda name: [sys.executable, "-m", name.replace("-", "_")],
}


def _flags(name: str, etcd: str) -> list[str]:
    own = ["--listen", f"127.0.0.1:{free_port()}"] if name == "book-server" else ["--calls", "0"]
    return ["--etcd", etcd, "--zipkin", "off", *own]


@contextmanager
def running(*command: object) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            yield program
        finally:
            program.kill()


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + STARTED_WITHIN
    while not condition():
        assert time.monotonic() < deadline, f"not within {STARTED_WITHIN:g} s: {what}"
        time.sleep(0.002)


def child_of(process: int) -> int:
    children = Path(f"/proc/{process}/task/{process}/children")
    wait_for(children.read_text, "the child of unshare")
    return int(children.read_text().split()[0])


def catches(process: int, number: int) -> bool:
    """Whether the process has a handler for a signal (proc(5): SigCgt)."""
    caught = next(line for line in Path(f"/proc/{process}/status").read_text().splitlines() if "SigCgt" in line)
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def loaded(process: int, library: str) -> bool:
    with suppress(OSError):
        return library in Path(f"/proc/{process}/maps").read_text()
    return False


def read_until(program: subprocess.Popen[str], event: str) -> None:
    assert program.stdout is not None
    for line in program.stdout:
        if event in line:
            return
    pytest.fail(f"ended without {event!r}: {program.stderr.read() if program.stderr else ''}")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("moment", ["at its first statement", "once it has loaded gRPC"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["book-server", "book-client"])
def test_a_signal_ends_a_program_that_starts(name: str, way: str, number: signal.Signals, moment: str) -> None:
    with running(*WAYS[way](name), *_flags(name, "127.0.0.1:1")) as program:
        # Python has a handler for SIGINT of its own from the beginning.
        wait_for(lambda: catches(program.pid, signal.SIGTERM), "a handler for SIGTERM")
        assert not loaded(program.pid, "cygrpc"), "the handler comes after what takes long"
        if "gRPC" in moment:
            wait_for(lambda: loaded(program.pid, "cygrpc"), "gRPC")
        program.send_signal(number)
        out, errors = program.communicate(timeout=ENDED_WITHIN)
        # A fast machine may have come to leaving properly.
        assert program.returncode == 128 + number or (out and program.returncode in {0, 1}), errors
        assert errors == ""


@needs_namespaces
@pytest.mark.parametrize("name", ["book-server", "book-client"])
async def test_process_1_that_starts_ends_unregistered(name: str, etcd: EtcdServer, etcd_client: EtcdClient) -> None:
    with running(*AS_PROCESS_1, SCRIPTS / name, *_flags(name, etcd.address)) as program:
        process = child_of(program.pid)
        wait_for(lambda: catches(process, signal.SIGTERM), "a handler for SIGTERM")
        os.kill(process, signal.SIGTERM)
        program.communicate(timeout=ENDED_WITHIN)
        assert program.returncode == 128 + signal.SIGTERM
    assert (await etcd_client.list(PREFIX)).items == ()


@needs_namespaces
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
async def test_a_second_signal_ends_process_1_at_once(second: signal.Signals, etcd: EtcdServer) -> None:
    flags = (*_flags("book-server", etcd.address), "--drain", "1h")
    with running(*AS_PROCESS_1, SCRIPTS / "book-server", *flags) as program:
        process = child_of(program.pid)
        read_until(program, "event=ready")
        os.kill(process, signal.SIGTERM)
        read_until(program, "event=deregistered")
        os.kill(process, second)
        _, errors = program.communicate(timeout=ENDED_WITHIN)
    assert program.returncode == 128 + second
    assert errors == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
async def test_any_of_the_signals_makes_a_program_leave_properly(number: signal.Signals, etcd: EtcdServer) -> None:
    with running(SCRIPTS / "book-server", *_flags("book-server", etcd.address), "--drain", "0s") as program:
        read_until(program, "event=ready")
        program.send_signal(number)
        out, errors = program.communicate(timeout=ENDED_WITHIN)
    assert program.returncode == 0
    assert "event=deregistered" in out
    assert errors == ""


async def test_under_nohup_a_hangup_is_nothing(etcd: EtcdServer) -> None:
    with running("nohup", SCRIPTS / "book-server", *_flags("book-server", etcd.address), "--drain", "0s") as program:
        read_until(program, "event=ready")
        program.send_signal(signal.SIGHUP)
        program.send_signal(signal.SIGTERM)
        out, _ = program.communicate(timeout=ENDED_WITHIN)
    assert program.returncode == 0
    assert "SIGHUP" not in out
