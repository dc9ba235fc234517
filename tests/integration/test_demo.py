"""`python -m localmesh demo` as a user runs it: what it prints, and that nothing of it stays behind."""

import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from localmesh.controls import press
from localmesh.http import request, request_json
from localmesh.waiting import NotYetError, until
from tests.support.demo import COMMAND, all_gone, demo, descendants, wait_for


async def test_it_shows_calls_counts_latencies_and_the_slowest_trace(run_dir: Path) -> None:
    log = run_dir / "out"
    with demo(log, "--calls", "4", "--replicas", "2", "--rate", "50", "--no-stay") as process:
        await wait_for(log, "/zipkin/traces/")
        assert process.wait(timeout=60) == 0
    text = log.read_text()
    assert re.match(r"(port \d+ is taken: .+\n)*  the page +http://127\.0\.0\.1:\d+/", text)
    assert len(re.findall(r"call \d  127\.0\.0\.1:\d+ +ok", text)) == 4
    assert re.findall(r"127\.0\.0\.1:\d+ +2\n", re.sub(r" +\n", "\n", text))
    assert "4 calls, 0 failures" in text
    assert re.search(r"latency p50 .* ms, p90 .* ms, p99 .* ms", text)
    assert re.search(r"trace [0-9a-f]{32}: 5 spans", text)
    assert text.count("━") > 10
    assert "127.0.0.1:2379" in text or "port 2379 is taken" in text


async def test_it_stays_up_until_ctrl_c_and_then_leaves_nothing(run_dir: Path) -> None:
    log = run_dir / "out"
    with demo(log, "--calls", "2", "--rate", "50", "--stay") as process:
        await wait_for(log, "Ctrl-C ends it.")
        url, trace_id = re.findall(r"in Zipkin: (http://\S+)/zipkin/traces/(\w+)", log.read_text())[0]
        assert len(await request_json(f"{url}/api/v2/trace/{trace_id}")) == 5
        # The page is up as long, with the buttons of the mesh's parts and of its replicas.
        (page,) = re.findall(r"^  the page +(http://\S+/)", log.read_text(), re.MULTILINE)
        replica, *_ = re.findall(r"^  book-server +(\S+)", log.read_text(), re.MULTILINE)
        assert (await request(f"{page}readyz"))[0] == 200
        told = await press(f"{page}actions/sicken", {"instance": replica})
        assert told == f"{replica} answers 100% of its calls with UNAVAILABLE"
        assert re.fullmatch(r"127\.0\.0\.1:\d+ is ready", await press(f"{page}actions/more", {}))
        parts = descendants(process.pid)
        assert len(parts) >= 7
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
    await all_gone(parts)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
async def test_whatever_ends_it_no_process_stays_behind(run_dir: Path, number: signal.Signals) -> None:
    log = run_dir / "out"
    with demo(log, "--calls", "1000") as process:
        await wait_for(log, "call    2")
        parts = descendants(process.pid)
        assert len(parts) >= 6
        process.send_signal(number)
        status = process.wait(timeout=120)
        assert status == (-signal.SIGKILL if number is signal.SIGKILL else 130)
    await all_gone(parts)
    assert "Traceback" not in log.read_text()


async def test_ctrl_c_while_it_starts_ends_it_at_once_and_leaves_nothing(run_dir: Path) -> None:
    log, folder = run_dir / "out", run_dir / "tmp"
    folder.mkdir()
    with demo(log, "--calls", "1", "--stay", env={"TMPDIR": str(folder)}) as process:

        async def two_of_its_parts() -> list[int]:
            if len(parts := descendants(process.pid)) < 2:
                raise NotYetError(f"{len(parts)} parts")
            return parts

        parts = await until(two_of_its_parts, within=60, what="etcd and Zipkin starting", every=0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    await all_gone(parts)
    assert not list(folder.iterdir())
    assert "Traceback" not in log.read_text()


async def test_a_part_that_does_not_start_is_said_with_its_reason_and_nothing_stays(run_dir: Path) -> None:
    log, folder = run_dir / "out", run_dir / "tmp"
    folder.mkdir()
    # etcd itself refuses it.
    with demo(log, "--no-stay", env={"ETCD_HEARTBEAT_INTERVAL": "often", "TMPDIR": str(folder)}) as process:
        assert process.wait(timeout=90) == 1
        assert descendants(process.pid) == []
    text = log.read_text()
    assert "Traceback" not in text
    assert re.search(r"etcd ended with status \d+ after", text)
    assert "often" in text
    assert not list(folder.iterdir())


async def test_taken_ports_are_said_and_others_used(run_dir: Path) -> None:
    log = run_dir / "out"
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        async def take() -> None:
            try:
                taken.bind(("127.0.0.1", 50051))
            except OSError as error:  # The system lends this port out to connections as well.
                raise NotYetError(str(error)) from error

        await until(take, within=30, what="port 50051 taken")
        taken.listen()
        with demo(log, "--calls", "1", "--replicas", "1", "--no-stay") as process:
            assert process.wait(timeout=240) == 0
    assert re.search(r"port 50051 is taken: book-server 1 takes \d+", log.read_text())


def test_bad_flags_are_refused() -> None:
    done = subprocess.run([*COMMAND, "--replicas", "0"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "--replicas" in done.stderr
