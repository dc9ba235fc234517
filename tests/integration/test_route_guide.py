"""gRPC's route guide in examples/: the four kinds of call on three replicas, one of which is killed meanwhile."""

import re
from pathlib import Path

from localmesh.components import EtcdServer, ZipkinServer
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from tests.support.example_programs import ExamplePrograms, lost_spans, serving

ROUNDS = 40
GOOD = {
    "get_feature": "['feature 1']",
    "list_features": "['feature 0', 'feature 1', 'feature 2', 'feature 3']",
    "record_route": "[5]",
    "route_chat": "['nice too', 'nice too', 'nice too', 'nice too', 'nice too']",
}


async def test_the_four_kinds_of_call_go_on_though_a_replica_is_killed(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    program = ExamplePrograms(run_dir, etcd, zipkin)
    ports = [free_port() for _ in range(3)]
    killed = ports[1]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    servers = [program("route_guide/server.py", f"guide-{number}", address) for number, address in enumerate(addresses)]
    client = program("route_guide/client.py", "hiker", str(ROUNDS))
    async with serving(servers), client:

        async def begun() -> None:
            if "\n9 " not in client.output():
                raise NotYetError(client.output())

        await until(begun, within=60, what="the first rounds")
        await servers[1].kill()
        assert await client.wait() == 0, client.output()
        calls = re.findall(r"^\d+ (\w+) ([0-9a-f]{32}) (.*)$", client.output(), re.MULTILINE)
        assert len(calls) == 4 * ROUNDS
        served = set()
        for call, trace_id, outcome in calls:
            # What may be called twice succeeds; the others may have been broken off.
            assert outcome == GOOD[call] or (outcome == "UNAVAILABLE" and call != "get_feature"), (call, outcome)
            # The client has ended, so its spans are there. The killed one's last ones have died with it.
            spans = await zipkin.wait_trace(trace_id, 2)
            called = {span["remoteEndpoint"]["port"] for span in spans if span.get("kind") == "CLIENT"}
            if killed not in called:
                spans = await zipkin.wait_trace(trace_id, 3)
            assert lost_spans(spans, killed=addresses[1]) == []
            served |= {span["localEndpoint"]["port"] for span in spans if span.get("kind") == "SERVER"}
        assert served == set(ports)
        assert sum(outcome == "UNAVAILABLE" for _, _, outcome in calls) <= 1
