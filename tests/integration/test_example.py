"""The example in examples/, run as it stands, except for where etcd, Zipkin and it listen."""

import re
import sys
from pathlib import Path

from localmesh.components import Etcd, Zipkin
from localmesh.ports import free_port
from localmesh.process import Process
from localmesh.waiting import NotYetError, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "greeter.py"


def test_it_is_under_60_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60


async def test_the_greeter_is_discovered_balanced_and_traced(run_dir: Path, etcd: Etcd, zipkin: Zipkin) -> None:
    script = run_dir / "greeter.py"
    text = EXAMPLE.read_text().replace("127.0.0.1:2379", etcd.address).replace("http://127.0.0.1:9411", zipkin.url)
    script.write_text(text)
    ports = free_port(), free_port()
    servers = [
        Process(f"greeter-{port}", [sys.executable, script, "serve", str(port)], run_dir=run_dir) for port in ports
    ]
    caller = Process("greeter-call", [sys.executable, script, "call", "4"], run_dir=run_dir)
    async with servers[0], servers[1]:

        async def ready() -> None:
            if not all("ready" in server.output() for server in servers):
                raise NotYetError([server.output() for server in servers].__repr__())

        await until(ready, within=30, what="the greeters ready")
        async with caller:
            assert await caller.wait() == 0
        greetings = re.findall(r"Hello caller (\d) ([0-9a-f]{32})", caller.output())
        assert [number for number, _ in greetings] == list("0123")
        served_by = set()
        for _, trace_id in greetings:
            spans = await zipkin.wait_trace(trace_id, 3)
            assert len(spans) == 3
            served_by |= {span["localEndpoint"]["port"] for span in spans if span.get("kind") == "SERVER"}
        assert served_by == set(ports)
        for server in servers:
            server.freeze()
        async with caller:
            assert await caller.wait() != 0
        error = re.findall(r"RetryError: .*", caller.output())[-1]
        assert "DEADLINE_EXCEEDED" in error
        assert all(f"127.0.0.1:{port}" in error for port in ports)
