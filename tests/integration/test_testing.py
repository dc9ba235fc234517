"""What meshkit gives to tests of others, used as they would."""

import grpc
import pytest
from helloworld_pb2 import HelloReply, HelloRequest
from helloworld_pb2_grpc import GreeterServicer, GreeterStub, add_GreeterServicer_to_server
from opentelemetry.trace import SpanKind

from localmesh.ports import free_port
from meshkit import CallError, Instancer, Mesh, MeshChannel, Registrar
from meshkit.errors import LeaseLostError
from meshkit.testing import FixedInstances, MemoryEtcd, MemorySpans, flaky_server

Code = grpc.StatusCode


class Greeter(GreeterServicer):
    async def SayHello(self, request: HelloRequest, context: object) -> HelloReply:  # noqa: N802
        return HelloReply(message=f"Hello {request.name}")


def add_greeter(server: grpc.aio.Server) -> None:
    add_GreeterServicer_to_server(Greeter(), server)  # type: ignore[no-untyped-call]


async def hello(channel: grpc.aio.Channel) -> str:
    stub: GreeterStub = GreeterStub(channel)  # type: ignore[no-untyped-call]
    reply: HelloReply = await stub.SayHello(HelloRequest(name="world"), timeout=20, wait_for_ready=True)
    return reply.message


async def test_a_flaky_server_fails_as_told_and_each_attempt_has_its_span_at_once() -> None:
    spans = MemorySpans()
    async with (
        flaky_server(add_greeter, lambda call: Code.UNAVAILABLE if call == 1 else None) as flaky,
        flaky_server(add_greeter, lambda call: Code.DATA_LOSS if call == 2 else None) as other,
    ):
        async with MeshChannel(FixedInstances(flaky), spans.tracer, idempotent=True) as channel:
            assert await hello(channel) == "Hello world"
        assert [span.status.is_ok for span in spans.of(SpanKind.CLIENT)] == [False, True]
        assert spans.open == 0
        async with MeshChannel(FixedInstances(other), attempts=1) as channel:
            assert await hello(channel) == "Hello world"
            with pytest.raises(CallError, match="call 2 fails on purpose"):
                await hello(channel)


async def test_a_mesh_over_an_etcd_in_memory() -> None:
    etcd, address = MemoryEtcd(), f"127.0.0.1:{free_port()}"
    async with (
        Mesh("greeter", address=address, etcd=etcd) as mesh,
        mesh.channel("greeter") as channel,
        mesh.serve(add_greeter, drain=0),
    ):
        assert await hello(channel) == "Hello world"
        assert list(etcd.keys) == [f"/services/greeter/{address}"]
    assert not etcd.keys


async def test_an_etcd_in_memory_does_what_the_port_promises() -> None:
    etcd = MemoryEtcd()
    lease = await etcd.grant(5)
    assert await etcd.put_if_absent("/a/1", "x", lease.id) is None
    assert (await etcd.put_if_absent("/a/1", "y")) == etcd.keys["/a/1"]
    assert await etcd.keep_alive(lease.id) == 5
    listing = await etcd.list("/a/")
    await etcd.put("/b/1", "elsewhere")
    await etcd.revoke(lease.id)
    watch = etcd.watch("/a/", listing.revision + 1)
    batch = await anext(watch)
    assert [(event.item.key, event.deleted) for event in batch.events] == [("/a/1", True)]
    await watch.aclose()
    for refused in etcd.keep_alive(lease.id), etcd.put("/a/1", "x", lease.id):
        with pytest.raises(LeaseLostError):
            await refused
    async with Instancer(etcd, "/c/") as instancer, Registrar(etcd, "/c/", "10.0.0.1:1"):
        assert await instancer.wait_instances() == {"10.0.0.1:1"}


async def test_instances_come_and_go_as_told() -> None:
    instances = FixedInstances()
    async with flaky_server(add_greeter, lambda _: None) as address, MeshChannel(instances) as channel:
        assert channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
        instances.change(address)
        assert await hello(channel) == "Hello world"
        instances.change()
        assert channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
