"""The chain of three services in examples/, run as it stands, with a replica of the middle one killed meanwhile."""

import re
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from localmesh.components import EtcdServer, ZipkinServer
from localmesh.ports import free_port
from localmesh.process import Process
from localmesh.waiting import NotYetError, until

EXAMPLES = Path(__file__).parents[2] / "examples"
PLACES = 40


def example(path: str, run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer) -> Path:
    """A copy that knows where etcd and Zipkin listen."""
    script = run_dir / path.replace("/", "-")
    text = (EXAMPLES / path).read_text().replace("http://127.0.0.1:9411", zipkin.url)
    script.write_text(text.replace("zipkin=", f'etcd=["{etcd.address}"], zipkin='))
    return script


async def test_three_services_and_a_stream_are_one_trace_though_a_replica_is_killed(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    def program(path: str, name: str, *arguments: str) -> Process:
        return Process(name, [sys.executable, example(path, run_dir, etcd, zipkin), *arguments], run_dir=run_dir)

    ports = {name: free_port() for name in ("guide", "places-1", "places-2", "places-3", "greeter")}
    servers = {
        name: program(
            {"greeter": "hello/server.py"}.get(name, f"chain/{name.partition('-')[0]}.py"), name, f"127.0.0.1:{port}"
        )
        for name, port in ports.items()
    }
    client = program("chain/client.py", "traveller", str(PLACES))
    async with AsyncExitStack() as stack:
        for server in servers.values():
            await stack.enter_async_context(server)

        async def ready() -> None:
            if waiting := [name for name, server in servers.items() if "ready" not in server.output()]:
                raise NotYetError(f"not ready: {waiting}")

        await until(ready, within=60, what="the servers ready")
        await stack.enter_async_context(client)

        async def begun() -> None:
            if "place 9" not in client.output():
                raise NotYetError(client.output())

        await until(begun, within=60, what="the first places")
        await servers["places-2"].kill()
        assert await client.wait() == 0, client.output()
        assert re.findall(r"Hello place (\d+)\n", client.output()) == [str(number) for number in range(PLACES)]
        trace_id = re.findall(r"trace ([0-9a-f]{32})", client.output())[-1]
        # The journey, the stream's two, and four for each place.
        spans = await zipkin.wait_trace(trace_id, 3 + 4 * PLACES)
    kinds = Counter((span["localEndpoint"]["serviceName"], span.get("kind")) for span in spans)
    assert kinds["traveller", "CLIENT"] == kinds["guide", "SERVER"] == 1
    assert kinds["guide", "CLIENT"] >= PLACES
    assert kinds["greeter", "SERVER"] >= PLACES
    killed = f"127.0.0.1:{ports['places-2']}"
    known = {span["id"] for span in spans}
    lost = [span for span in spans if span.get("parentId", span["id"]) not in known]
    # Only what the killed one was about to tell of is missing, if it was in the middle of a call.
    assert all(f"{span['localEndpoint']['ipv4']}:{span['localEndpoint']['port']}" == killed for span in lost), lost
    assert len(lost) <= 1
