"""With a durable store, no trace is lost when Zipkin's pod is replaced."""

from tests.e2e.harness.expectations import all_succeeded, all_whole, none_retried
from tests.e2e.harness.mesh import Mesh

DURABLE = {"storage": {"type": "mariadb"}, "image": {"repository": "openzipkin/zipkin"}}


def test_every_trace_is_whole_though_zipkins_pod_is_deleted_twice(mesh: Mesh) -> None:
    # Some 6 calls a second: MariaDB has to keep up with their spans on a machine that has much else to do, and Zipkin
    # to store within the gate's time what it has confirmed.
    mesh.install(replicas=3, zipkin=DURABLE, client={"interval": "600ms"})
    mesh.zipkin.port_untold = 50051
    mesh.wait_calls(60)
    for time in ("first", "second"):
        (zipkin,) = mesh.living("zipkin")
        mesh.mark(f"Zipkin's pod is deleted a {time} time", "fault")
        mesh.cluster.core.delete_namespaced_pod(zipkin.name, mesh.namespace)
        mesh.wait_end(zipkin)
        mesh.wait_ready("zipkin", 1)
        mesh.mark("Zipkin is back", "recovery")
        mesh.wait_calls(60)
    calls = mesh.stop_traffic()
    # What waited while it was away is stored bit by bit.
    verdict = mesh.verdict(calls, within=60)
    all_succeeded(mesh, calls)
    none_retried(mesh, verdict, calls)
    all_whole(mesh, verdict, calls)
    # Its search goes by other columns than the traces' ids.
    services = mesh.zipkin.get("/api/v2/services", {})
    assert services == ["book-client", "book-server"]
    search = {"serviceName": "book-server", "spanName": "bookservice/getbooklist", "limit": "10"}
    found = mesh.zipkin.get("/api/v2/traces", search)
    assert len(found) == 10
