"""The chain of three services in examples/, with a replica of the middle one killed meanwhile."""

import re
from collections import Counter
from pathlib import Path

from localmesh.components import EtcdServer, ZipkinServer
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from tests.support.example_programs import ExamplePrograms, lost_spans, serving

PLACES = 40


async def test_three_services_and_a_stream_are_one_trace_though_a_replica_is_killed(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    program = ExamplePrograms(run_dir, etcd, zipkin)
    ports = {name: free_port() for name in ("guide", "places-1", "places-2", "places-3", "greeter")}
    servers = {
        name: program(
            {"greeter": "hello/server.py"}.get(name, f"chain/{name.partition('-')[0]}.py"), name, f"127.0.0.1:{port}"
        )
        for name, port in ports.items()
    }
    client = program("chain/client.py", "traveller", str(PLACES))
    async with serving(servers.values()), client:

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
    # Only what the killed one was about to tell of is missing, if it was in the middle of a call.
    assert len(lost_spans(spans, killed=f"127.0.0.1:{ports['places-2']}")) <= 1
