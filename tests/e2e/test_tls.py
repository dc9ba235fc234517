"""Mutual TLS by one value: everything works as without it, and clients without a certificate are refused."""

import json
from typing import Any

from tests.e2e.harness.expectations import all_succeeded, all_whole, none_retried
from tests.e2e.harness.mesh import Mesh

# Runs in a client's container, as only pods that the network policies let through get far enough to be refused by TLS.
KNOCK = """
import json, pathlib, sys, grpc
etcd, server, name = sys.argv[1:]
ca, cert, key = (pathlib.Path("/tls", file).read_bytes() for file in ("ca.crt", "tls.crt", "tls.key"))
everything, nothing = bytes((10, 1, 0, 18, 1, 0)), b""
ways = {"plaintext": None, "no certificate": (ca,), "a certificate": (ca, key, cert)}
doors = {"etcd": (etcd, "/etcdserverpb.KV/Range", everything), "server": (server, "/BookService/GetBookList", nothing)}
said = {}
for door, (address, method, request) in doors.items():
    options = [("grpc.ssl_target_name_override", name)] if door == "server" else []
    for way, pem in ways.items():
        if pem is None:
            channel = grpc.insecure_channel(address)
        else:
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*pem), options=options)
        try:
            channel.unary_unary(method)(request, timeout=10)
            said[f"{door}, {way}"] = "OK"
        except grpc.RpcError as error:
            said[f"{door}, {way}"] = error.code().name
print(json.dumps(said))
"""


def test_tls_from_client_to_server_to_etcd_refuses_clients_without_a_certificate(mesh: Mesh) -> None:
    mesh.install(replicas=2, tls={"enabled": True})
    mesh.wait_calls(200)
    mesh.mark("knocking without a certificate")
    said = knock(mesh)
    refused = {way for way, answer in said.items() if answer == "UNAVAILABLE"}
    mesh.record.figure("ways in without a certificate", f"{4 - len(refused)} of 4", "none")
    assert refused == {f"{door}, {way}" for door in ("etcd", "server") for way in ("plaintext", "no certificate")}, said
    assert {said["etcd, a certificate"], said["server, a certificate"]} == {"OK"}, said
    mesh.mark("helm test")
    mesh.helm("test", mesh.release, "--logs")
    # By etcdctl in etcd's pod, with etcd's own certificate.
    assert mesh.registry.instances() == mesh.instances()
    calls = mesh.stop_traffic()
    verdict = mesh.verdict(calls)
    all_succeeded(mesh, calls)
    none_retried(mesh, verdict, calls)
    all_whole(mesh, verdict, calls)


def test_three_members_of_etcd_with_tls_find_each_other_and_one_may_go(mesh: Mesh) -> None:
    mesh.install(replicas=2, tls={"enabled": True}, etcd={"replicas": 3, "persistence": {"enabled": True}})
    health = mesh.registry.etcdctl("endpoint", "health", "--cluster")
    assert health.count("is healthy") == 3, health
    mesh.wait_calls(100)
    before = mesh.instances()
    gone = mesh.living("etcd")[-1]
    mesh.mark(f"{gone.name} is deleted", "fault")
    mesh.cluster.core.delete_namespaced_pod(gone.name, mesh.namespace)
    mesh.wait_end(gone)
    mesh.wait_ready("etcd", 3)
    mesh.mark("it is back", "recovery")
    mesh.wait_calls(100)
    assert mesh.registry.instances() == mesh.instances() == before
    calls = mesh.stop_traffic()
    verdict = mesh.verdict(calls)
    all_succeeded(mesh, calls)
    all_whole(mesh, verdict, calls)


def knock(mesh: Mesh) -> dict[str, Any]:
    """What etcd and a server answer to a plaintext call, to one without a certificate, and to a proper one."""
    (client,), server = mesh.living("client"), min(mesh.instances())
    addresses = (f"{mesh.fullname}-etcd:2379", server, f"{mesh.fullname}-server")
    command = ("exec", client.name, "-c", "book-client", "--", "/venv/bin/python", "-c", KNOCK, *addresses)
    answers: dict[str, Any] = json.loads(mesh.cluster.kubectl(mesh.namespace, *command, within=120))
    return answers
