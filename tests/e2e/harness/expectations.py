"""What every scenario expects of its calls and their traces; each is a figure of the report as well."""

import itertools
from collections.abc import Sequence

from localmesh.calls import Call
from localmesh.oracle import Verdict
from tests.e2e.harness.mesh import Mesh
from tests.e2e.harness.replicas import Replica, early_arrivals, late_arrivals, untimely_departures

__all__ = [
    "all_succeeded",
    "all_whole",
    "came_and_went_without_loss",
    "came_in_time",
    "left_in_order",
    "longest_silence",
    "none_retried",
    "same_everywhere",
]

FIRST_CALL_WITHIN = 3.0


def all_succeeded(mesh: Mesh, calls: Sequence[Call]) -> None:
    """No call failed."""
    failed = [call for call in calls if not call.ok]
    mesh.record.figure("failed calls", f"{len(failed)} of {len(calls):,}", "none")
    assert not failed, "\n".join(f"{call}: {call.error}" for call in failed[:10])


def none_retried(mesh: Mesh, verdict: Verdict, calls: Sequence[Call]) -> None:
    """No call needed a second attempt: who leaves in order is not called any more once the port is shut."""
    retried = [call for call in calls if call.attempts > 1]
    mesh.record.figure("retried calls", f"{len(retried)}", "none")
    assert not retried, "\n".join(map(str, [*verdict.failed_attempts[:10], *retried[:10]]))


def all_whole(mesh: Mesh, verdict: Verdict, calls: Sequence[Call]) -> None:
    """Every call has a whole trace, and every replica that was called has spans."""
    mesh.record.figure("whole traces", f"{verdict.whole:,} of {verdict.calls:,}", "all")
    assert verdict.whole == verdict.calls == len(calls), str(verdict)
    assert set(verdict.served) == {call.instance for call in calls}


def came_in_time(mesh: Mesh, replicas: Sequence[Replica], calls: Sequence[Call]) -> None:
    """Each replica that came while calls flowed was registered before it was Ready, and called soon after."""
    began = min(call.start for call in calls)
    replicas = [replica for replica in replicas if replica.ready is not None and replica.ready > began]
    waits = [wait for replica in replicas if (wait := replica.ready_to_first_call) is not None]
    mesh.record.figure("Ready to first call", f"{max(waits, default=float('nan')):.2f} s", f"{FIRST_CALL_WITHIN:g} s")
    assert not (late := late_arrivals(replicas, within=mesh.bound(FIRST_CALL_WITHIN))), late
    assert not (early := early_arrivals(replicas)), early


def left_in_order(mesh: Mesh, replicas: Sequence[Replica]) -> None:
    """Each replica that was told to go took its key away, was called no more, drained, and exited with 0."""
    last = [
        replica.last_call - replica.deregistered
        for replica in replicas
        if replica.last_call is not None and replica.deregistered is not None
    ]
    drain = mesh.drain
    mesh.record.figure("last call after the key's end", f"{max([0.0, *last]):.2f} s", f"{drain:g} s")
    assert not (wrong := untimely_departures(replicas, drain=drain)), "\n".join(wrong)


def came_and_went_without_loss(mesh: Mesh) -> list[Replica]:
    """Stop the traffic: replicas came and left in order, and no call and no span was lost; returns all replicas."""
    calls = mesh.stop_traffic()
    verdict = mesh.verdict(calls)
    replicas = mesh.replicas()
    all_succeeded(mesh, calls)
    none_retried(mesh, verdict, calls)
    came_in_time(mesh, replicas, calls)
    left_in_order(mesh, [replica for replica in replicas if replica.leaving])
    all_whole(mesh, verdict, calls)
    assert {replica.instance for replica in replicas} == set(verdict.served)
    return replicas


def longest_silence(calls: Sequence[Call]) -> float:
    """The longest time, in seconds, in which no call ended."""
    ends = sorted(call.end for call in calls)
    return max((later - sooner for sooner, later in itertools.pairwise(ends)), default=0.0)


def same_everywhere(mesh: Mesh, calls: Sequence[Call]) -> None:
    """The keys in etcd, the Ready pods and the instances that the last calls went to are the same."""
    registered, ready = mesh.registry.instances(), mesh.instances()
    recent = {call.instance for call in sorted(calls, key=lambda call: call.start)[-10 * len(ready) :]}
    traced = {
        f"{span['localEndpoint']['ipv4']}:{span['localEndpoint']['port']}"
        for call in sorted(calls, key=lambda call: call.start)[-10 * len(ready) :]
        for span in mesh.zipkin.traces.get(call.trace_id, ())
        if span.get("kind") == "SERVER"
    }
    assert registered == ready == recent == traced
