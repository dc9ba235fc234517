"""The oracle of the e2e tests on real traces: here, where a run takes seconds."""

from pathlib import Path

from localmesh.calls import calls_in, missing_numbers
from localmesh.components import FAST, BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.oracle import Verdict, judge
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from meshkit.etcd import EtcdClient

SERVER = (*FAST, "--max-list-latency", "5ms", "--drain", "500ms")


async def test_every_call_has_a_whole_trace_while_an_instance_is_dead_and_another_leaves(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient, zipkin: ZipkinServer
) -> None:
    dead = f"127.0.0.1:{free_port()}"
    await etcd_client.put("/services/book/" + dead, dead)
    async with (
        BookServer(run_dir, *SERVER, etcd=etcd.address, zipkin=zipkin.collector) as stays,
        BookServer(run_dir, *SERVER, etcd=etcd.address, zipkin=zipkin.collector) as leaves,
    ):
        flags = ("--calls", "300", "--concurrency", "4", "--interval", "10ms", "--breaker-error-percent", "50")
        client = BookClient(run_dir, *flags, etcd=etcd.address, zipkin=zipkin.collector)
        client.spawn()
        await client.wait_event("call", count=100)
        await leaves.stop()
        assert await client.wait() == 0, client.last_words()
        calls = calls_in(client.output().splitlines(), "client", "127.0.0.1")
        assert len(calls) == 300
        assert missing_numbers(calls) == []

        async def probe() -> Verdict:
            verdict = judge(calls, await zipkin.traces([call.trace_id for call in calls]))
            if verdict.broken:
                raise NotYetError(str(verdict))
            return verdict

        verdict = await until(probe, within=15, what="300 whole traces", every=0.5)
    retried = [call for call in calls if call.attempts > 1]
    assert retried
    assert verdict.whole == 300
    assert set(verdict.served) == {stays.address, leaves.address}
    assert {attempt.instance for attempt in verdict.failed_attempts} == {dead}
    assert len(verdict.failed_attempts) == sum(call.attempts - 1 for call in calls)
