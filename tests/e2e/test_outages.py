"""etcd and Zipkin go away while calls flow."""

import time

from tests.e2e.harness.expectations import all_succeeded, all_whole, longest_silence, none_retried, same_everywhere
from tests.e2e.harness.mesh import Mesh

# A busy machine alone has made gaps of 2.9 s. That no collector slows calls down is held closer by the fault tests.
SILENCE = 5.0
ZIPKIN_AWAY = 30.0


def test_calls_never_stop_while_etcd_is_replaced(mesh: Mesh) -> None:
    mesh.install(replicas=3)
    mesh.wait_calls(100)
    before = mesh.instances()
    (etcd,) = mesh.living("etcd")
    mesh.mark("etcd's pod is deleted, its data too", "fault")
    mesh.cluster.core.delete_namespaced_pod(etcd.name, mesh.namespace)
    mesh.wait_end(etcd)
    mesh.wait_ready("etcd", 1)
    back = mesh.mark("etcd is back", "recovery")
    mesh.wait_in_etcd(before, within=30)
    registered = time.time()
    mesh.wait_calls(200)
    calls = mesh.calls()
    mesh.zipkin.verdict(calls)
    same_everywhere(mesh, calls)
    calls = mesh.stop_traffic()
    verdict = mesh.verdict(calls)

    silence = longest_silence(calls)
    mesh.record.figure("all keys back after etcd", f"{registered - back:.1f} s", "5 s")
    mesh.record.figure("longest time without a call", f"{silence * 1000:.0f} ms", f"{SILENCE:g} s")
    all_succeeded(mesh, calls)
    none_retried(mesh, verdict, calls)
    all_whole(mesh, verdict, calls)
    assert registered - back <= mesh.bound(5)
    assert silence <= mesh.bound(SILENCE)
    assert {call.instance for call in calls} == before


def test_calls_go_on_while_zipkin_is_away_and_later_traces_are_whole(mesh: Mesh) -> None:
    mesh.install(replicas=3)
    mesh.wait_calls(100)
    mesh.mark("Zipkin goes", "fault")
    deployment = f"{mesh.fullname}-zipkin"
    mesh.cluster.kubectl(mesh.namespace, "scale", f"deployment/{deployment}", "--replicas=0")
    mesh.wait_ready("zipkin", 0)
    mesh.wait_gone("zipkin")
    away = time.time()
    mesh.let_flow(ZIPKIN_AWAY)
    mesh.cluster.kubectl(mesh.namespace, "scale", f"deployment/{deployment}", "--replicas=1")
    mesh.wait_ready("zipkin", 1)
    back = mesh.mark("Zipkin is back", "recovery")
    mesh.wait_calls(300)
    calls = mesh.stop_traffic()
    # What it had in memory is lost with it. What was made while it was away waits in the programs' queues.
    kept = [call for call in calls if call.start > away]
    verdict = mesh.verdict(kept)

    silence = longest_silence(calls)
    mesh.record.figure("Zipkin away", f"{back - away:.0f} s", f"at least {ZIPKIN_AWAY:g} s")
    mesh.record.figure("longest time without a call", f"{silence * 1000:.0f} ms", f"{SILENCE:g} s")
    mesh.record.figure("calls while it was away", f"{sum(call.start < back for call in kept):,}")
    all_succeeded(mesh, calls)
    none_retried(mesh, verdict, calls)
    all_whole(mesh, verdict, kept)
    assert silence <= mesh.bound(SILENCE)


def test_a_rollout_of_everything_at_once_costs_no_call(mesh: Mesh) -> None:
    mesh.install(replicas=3)
    mesh.wait_calls(100)
    before = {pod.uid for pod in mesh.pods.all}
    mesh.mark("all is replaced at once", "fault")
    workloads = mesh.cluster.kubectl(mesh.namespace, "get", "deployments,statefulsets", "-o", "name").split()
    mesh.cluster.kubectl(mesh.namespace, "rollout", "restart", *workloads)
    for workload in workloads:
        mesh.cluster.kubectl(mesh.namespace, "rollout", "status", workload, "--timeout=170s", within=180)
    for component in ("server", "client", "etcd", "zipkin"):
        mesh.wait_gone(component)
    mesh.wait_ready("server", 3)
    done = mesh.mark("all is new", "recovery")
    assert not before & {pod.uid for component in ("server", "client", "etcd") for pod in mesh.living(component)}
    mesh.wait_in_etcd(mesh.instances(), within=mesh.bound(10))
    mesh.wait_calls(200)
    calls = mesh.stop_traffic()
    # What the old Zipkin had in memory is lost with it.
    kept = [call for call in calls if call.start > done]
    verdict = mesh.verdict(kept)
    all_succeeded(mesh, calls)
    all_whole(mesh, verdict, kept)
