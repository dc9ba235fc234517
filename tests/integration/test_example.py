"""The examples in examples/, run as they stand, except for where etcd, Zipkin and they listen."""

import ast
import asyncio
import re
from pathlib import Path

import pytest

from localmesh.components import EtcdServer, ZipkinServer
from localmesh.http import request_json
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from tests.support.example_programs import EXAMPLES, ExamplePrograms, serving

EXAMPLE = EXAMPLES / "greeter.py"


def test_it_is_under_60_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 60


async def test_the_greeter_is_discovered_balanced_and_traced(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    program = ExamplePrograms(run_dir, etcd, zipkin)
    ports = free_port(), free_port()
    servers = [program("greeter.py", f"greeter-{port}", "serve", str(port)) for port in ports]
    caller = program("greeter.py", "greeter-call", "call", "4")
    async with serving(servers):
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


@pytest.mark.parametrize("path", ["hello/client.py", "hello/server.py"])
def test_with_a_generated_stub_it_is_at_most_ten_lines(path: str) -> None:
    text = (EXAMPLES / path).read_text()
    module = ast.parse(text)
    body = text.removeprefix(f'"""{ast.get_docstring(module)}"""')
    assert len([line for line in body.splitlines() if line]) <= 10


async def test_hello_is_said_by_each_server_in_a_whole_trace(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    program = ExamplePrograms(run_dir, etcd, zipkin)
    server = program("hello/server.py", "hello-server", f"127.0.0.1:{free_port()}")
    calling = program("hello/client.py", "hello-client")
    async with calling:
        # It waits for an instance.
        await asyncio.sleep(0.5)
        async with server:
            assert await calling.wait() == 0, calling.output()
            assert "Hello world" in calling.output()

            async def whole() -> None:
                traces = await request_json(f"{zipkin.url}/api/v2/traces?serviceName=hello")
                kinds = sorted(str(span.get("kind")) for trace in traces for span in trace)
                if kinds != ["CLIENT", "None", "SERVER"]:
                    raise NotYetError(f"{traces}")

            await until(whole, within=30, what="the trace whole")
        assert "stopped" in server.output()
