"""What a program does when its standard output cannot be used: with pipes, shells and devices as users have them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localmesh.components import BookServer, EtcdServer

SCRIPTS = Path(sys.executable).parent
WITHIN = 120.0
SIGPIPE = 128 + 13


def flags(etcd: EtcdServer) -> list[str]:
    return ["--etcd", etcd.address, "--zipkin", "off"]


def started(*command: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def in_a_shell(command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", command], capture_output=True, timeout=WITHIN, check=False)


async def test_a_client_whose_reader_goes_ends_without_a_word(run_dir: Path, etcd: EtcdServer) -> None:
    async with BookServer(run_dir, "--rate", "0", etcd=etcd.address):
        with started(SCRIPTS / "book-client", *flags(etcd), "--calls", "0") as client:
            assert client.stdout is not None
            assert client.stderr is not None
            client.stdout.readline()
            client.stdout.close()
            assert client.wait(WITHIN) == SIGPIPE
            assert client.stderr.read() == b""


async def test_a_server_whose_reader_goes_serves_on(etcd: EtcdServer) -> None:
    server_flags = (*flags(etcd), "--listen", "127.0.0.1:0", "--rate", "0", "--drain", "0s")
    with started(SCRIPTS / "book-server", *server_flags) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        while b"event=ready" not in server.stdout.readline():
            assert server.poll() is None
        server.stdout.close()
        server.send_signal(signal.SIGTERM)
        # All that it says of its leaving finds no reader.
        assert server.wait(WITHIN) == 0
        assert server.stderr.read() == b""


@pytest.mark.parametrize("output", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
async def test_calls_are_made_whatever_standard_output_is(run_dir: Path, etcd: EtcdServer, output: str) -> None:
    async with BookServer(run_dir, "--rate", "0", etcd=etcd.address):
        program = " ".join([str(SCRIPTS / "book-client"), *flags(etcd), "--calls", "3"])
        done = in_a_shell(f"{program} {output}")
        assert (done.returncode, done.stderr) == (0, b"")
