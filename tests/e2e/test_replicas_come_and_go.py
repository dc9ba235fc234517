"""Replicas come, go, are replaced and killed while calls flow."""

import time

from localmesh.oracle import Excuse
from tests.e2e.harness.expectations import all_succeeded, came_and_went_without_loss, came_in_time
from tests.e2e.harness.mesh import CONCURRENCY, LEASE_TTL, Mesh

# A killed process takes with it the spans of its last batch: half a second, and the time to send it.
UNSENT = 1.5


def test_scale_2_5_1_loses_no_call_and_no_span(mesh: Mesh) -> None:
    mesh.install(replicas=2)
    mesh.wait_calls(100)
    mesh.mark("scale to 5")
    mesh.apply(server={"replicas": 5})
    mesh.wait_ready("server", 5)
    mesh.wait_calls(300)
    mesh.mark("scale to 1")
    mesh.apply(server={"replicas": 1})
    mesh.wait_ready("server", 1)
    mesh.wait_gone("server")
    mesh.wait_calls(100)
    assert len(came_and_went_without_loss(mesh)) == 5


def test_rolling_upgrade_loses_no_call_and_no_span(mesh: Mesh) -> None:
    mesh.install(replicas=3)
    mesh.wait_calls(100)
    before = {pod.uid for pod in mesh.living("server")}
    mesh.mark("rolling upgrade")
    mesh.apply(server={"podAnnotations": {"bookmesh/generation": "2"}})
    mesh.cluster.kubectl(
        mesh.namespace, "rollout", "status", f"deployment/{mesh.fullname}-server", "--timeout=150s", within=160
    )
    mesh.wait_ready("server", 3)
    mesh.wait_gone("server")
    mesh.mark("upgraded")
    mesh.wait_calls(100)
    came_and_went_without_loss(mesh)
    assert not before & {pod.uid for pod in mesh.living("server")}


def test_a_killed_pod_costs_the_calls_in_flight_a_retry(mesh: Mesh) -> None:
    mesh.install(replicas=3)
    mesh.wait_calls(100)
    victim = mesh.living("server")[0]
    instance = f"{victim.ip}:50051"
    mesh.wait_registered(lambda present: instance in present, f"{instance}'s key", within=10)
    before = time.time()
    mesh.cluster.kill(victim.latest)
    # Reaching the node takes a while: it died at some moment between the two.
    killed = mesh.mark("a replica is killed", "fault")
    # Otherwise its process would be started again, at the same address.
    mesh.cluster.core.delete_namespaced_pod(victim.name, mesh.namespace, grace_period_seconds=0)
    mesh.wait_registered(lambda present: instance not in present, f"the end of {instance}'s key", within=LEASE_TTL + 10)
    gone = mesh.registry.gone_at(instance)
    assert gone is not None
    gone_after = gone - killed
    mesh.mark("its key is gone", "recovery")
    mesh.wait_ready("server", 3)
    mesh.wait_calls(100)
    calls = mesh.stop_traffic()
    verdict = mesh.verdict(calls, [Excuse(instance, before - UNSENT, killed + 1)])

    retried = [call for call in calls if call.attempts > 1]
    mesh.record.figure("retried calls", f"{len(retried)}", f"at most {CONCURRENCY} in flight")
    mesh.record.figure("key gone after the kill", f"{gone_after:.1f} s", f"{LEASE_TTL + 2} s")
    mesh.record.figure("traces that lack what the process had not sent", f"{verdict.excused}")
    all_succeeded(mesh, calls)
    (dead,) = (replica for replica in mesh.replicas() if replica.instance == instance)
    assert dead.stopped is None, "it was not killed, it left in order"
    assert gone_after <= LEASE_TTL + mesh.bound(2)
    assert not verdict.broken, str(verdict)
    assert {attempt.instance for attempt in verdict.failed_attempts} <= {instance}
    assert len(retried) <= CONCURRENCY, "\n".join(map(str, retried[:20]))
    came_in_time(mesh, [replica for replica in mesh.replicas() if replica.instance != instance], calls)
