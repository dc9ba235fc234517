"""A node of the cluster goes away without a word, or is drained, while calls flow."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from localmesh.calls import Call
from tests.e2e.harness.cluster import Cluster
from tests.e2e.harness.expectations import all_succeeded, came_and_went_without_loss
from tests.e2e.harness.mesh import Mesh

pytestmark = pytest.mark.alone

# Past the lease, and past what a client may take to find out.
AWAY = 30.0
# So soon calls are back at their usual latency.
RECOVERY = 5.0
# Of the client that calls rarely, in seconds.
PACE = 5
HOSTNAME = "kubernetes.io/hostname"


@contextmanager
def cordoned(cluster: Cluster, node: str) -> Iterator[None]:
    """Let nothing new onto a node, while the body runs."""
    cluster.run("kubectl", "cordon", node)
    try:
        yield
    finally:
        cluster.run("kubectl", "uncordon", node)


@contextmanager
def paused(cluster: Cluster, node: str) -> Iterator[None]:
    """Stop all that runs on a node, while the body runs; its kernel still acknowledges what it is sent."""
    cluster.run("docker", "pause", node)
    try:
        yield
    finally:
        cluster.run("docker", "unpause", node)
        cluster.run("kubectl", "wait", f"node/{node}", "--for=condition=Ready", "--timeout=120s", within=130)
        cluster.wait_no_taints(node)


def install_with_two_of_three_on(mesh: Mesh, goes: str, stays: str, *, etcd: str) -> None:
    """Install it with two servers on the node that goes; client and Zipkin are on the one that stays."""
    place = {node: {"nodeSelector": {HOSTNAME: node}} for node in (goes, stays)}
    mesh.install(replicas=0, traffic=False, zipkin=place[stays], client=place[stays], etcd=place[etcd])
    for count, other in ((1, goes), (3, stays)):
        with cordoned(mesh.cluster, other):
            mesh.apply(server={"replicas": count})
            mesh.wait_ready("server", count)
    assert sorted(pod.node for pod in mesh.living("server")) == sorted([goes, goes, stays])
    mesh.start_traffic()


def by_second(calls: Sequence[Call], start: float, seconds: range) -> list[str]:
    """Calls and their longest duration in each second from `start` on, by the second in which they began."""
    rows = []
    for second in seconds:
        found = [call.duration for call in calls if start + second <= call.start < start + second + 1]
        rows.append(f"{second:+d} s: {len(found)} calls, at most {max(found, default=0) * 1000:.0f} ms")
    return rows


@pytest.mark.parametrize("etcd_goes", [False, True], ids=["etcd-stays", "etcd-goes-too"])
def test_a_node_that_goes_with_two_of_three_replicas_costs_no_call(mesh: Mesh, etcd_goes: bool) -> None:
    stays, goes = sorted(mesh.cluster.workers())[:2]
    install_with_two_of_three_on(mesh, goes, stays, etcd=goes if etcd_goes else stays)
    mesh.start_slow_client(interval=PACE)
    mesh.wait_calls(200)
    mesh.let_flow(2 * PACE)
    usual = max(call.duration for call in mesh.calls())
    before = mesh.instances()
    with paused(mesh.cluster, goes):
        gone = mesh.mark("a node stands still", "fault")
        mesh.let_flow(AWAY)
        back = mesh.mark("it goes on", "recovery")
    mesh.wait_in_etcd(before, within=mesh.bound(60))
    mesh.wait_ready("server", 3)
    mesh.wait_calls(200)
    calls = mesh.stop_traffic()

    recovered = gone + mesh.bound(RECOVERY)
    late = [call for call in calls if recovered <= call.start < back and call.duration > mesh.bound(max(1.0, usual))]
    pace = sum(recovered <= call.start < back for call in calls) / (back - recovered)
    usual_pace = sum(gone - 10 <= call.start < gone for call in calls) / 10
    for row in by_second(calls, gone, range(-3, 12)):
        mesh.record.figure("calls by second", row)
    rare = [call for call in calls if call.client == "slow-client"]
    told = ", ".join(f"{call.start - gone:+.0f} s: {call.duration * 1000:.0f} ms" for call in rare)
    mesh.record.figure(f"a client with a call in {PACE} s", told)
    mesh.record.figure("calls a second before and after", f"{usual_pace:.1f}, {pace:.1f}", "at least half")
    mesh.record.figure(f"slow calls later than {RECOVERY:g} s", f"{len(late)}", "none")
    all_succeeded(mesh, calls)
    assert not late, "\n".join(f"{call}: {call.duration:.1f} s" for call in late[:20])
    assert pace >= usual_pace / 2
    assert {call.instance for call in calls if call.start > back} == before


def test_a_drained_node_loses_no_call_and_no_span(mesh: Mesh) -> None:
    stays, goes = sorted(mesh.cluster.workers())[:2]
    install_with_two_of_three_on(mesh, goes, stays, etcd=stays)
    mesh.wait_calls(100)
    drain = ("kubectl", "drain", goes, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=150s")
    ours = f"--pod-selector=app.kubernetes.io/instance={mesh.release}"
    try:
        mesh.mark("a node is drained")
        mesh.cluster.run(*drain, ours, within=160)
        mesh.wait_ready("server", 3)
        mesh.mark("it is empty")
        mesh.wait_calls(100)
    finally:
        mesh.cluster.run("kubectl", "uncordon", goes)
    came_and_went_without_loss(mesh)
    assert {pod.node for pod in mesh.living("server")} == {stays}
