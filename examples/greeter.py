"""A service of one's own in the mesh: `greeter.py serve 6001`, `greeter.py serve 6002`, then `greeter.py call 9`."""

import sys

import grpc
from google.protobuf.wrappers_pb2 import StringValue

import meshkit as mesh
from meshkit.deadline import remaining

ETCD, ZIPKIN = "127.0.0.1:2379", "http://127.0.0.1:9411/api/v2/spans"
PREFIX, SERVICE = "/services/greeter/", "Greeter"


async def greet(request: StringValue, context) -> StringValue:
    return StringValue(value=f"Hello {request.value}")


def add_greeter(server):
    decode, encode = StringValue.FromString, StringValue.SerializeToString
    method = grpc.unary_unary_rpc_method_handler(greet, request_deserializer=decode, response_serializer=encode)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Greet": method})])


async def serve(address: str) -> None:
    limiter = mesh.DelayingLimiter(mesh.TokenBucket(rate=100, burst=10))
    with mesh.stop_signal() as stop:
        async with (
            mesh.open_tracer("greeter", address=address, zipkin=ZIPKIN) as tracer,
            mesh.EtcdClient([ETCD]) as etcd,
        ):
            registrar = mesh.Registrar(etcd, PREFIX, address)
            guards = [mesh.TracingServerInterceptor(tracer, [SERVICE]), mesh.MiddlewareInterceptor(limiter, [SERVICE])]
            async with mesh.serve(add_greeter, [SERVICE], listen=address, registrar=registrar, interceptors=guards):
                await stop.wait()


async def call(times: int) -> None:
    def greeting_over(channel, instance: str):
        greet = channel.unary_unary("/Greeter/Greet", StringValue.SerializeToString, StringValue.FromString)
        return lambda name: greet(StringValue(value=name), timeout=remaining())

    async with (
        mesh.open_tracer("greeter-client", zipkin=ZIPKIN) as tracer,
        mesh.EtcdClient([ETCD]) as etcd,
        mesh.Instancer(etcd, PREFIX) as instancer,
        mesh.Endpointer(instancer, mesh.channel_factory(greeting_over, tracer)) as endpointer,
    ):
        await endpointer.wait_endpoints()
        # The retry enforces the time limit, because its error names every attempt.
        retry = mesh.Retry(mesh.RoundRobin(endpointer), attempts=3, timeout=1)
        greeter = mesh.HystrixBreaker("greeter")(retry)
        for number in range(times):
            with mesh.root_span(tracer, "greeting") as span:
                print((await greeter(f"caller {number}")).value, mesh.trace_id_of(span))


mesh.run_async(serve(f"127.0.0.1:{sys.argv[2]}") if sys.argv[1] == "serve" else call(int(sys.argv[2])))
