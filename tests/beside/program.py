# mypy: ignore-errors
"""A server and its client by the toolkit's wheel, beside current packages: grpcio-status and an OTLP exporter.

Prints what of a rich error arrived, and the spans that the exporter sent.
"""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google.protobuf
import grpc
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from grpc_health.v1.health_pb2 import HealthListRequest
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_status import rpc_status
from helloworld_pb2 import HelloRequest
from helloworld_pb2_grpc import GreeterServicer, GreeterStub, add_GreeterServicer_to_server
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import meshkit
from meshkit.client import MeshChannel
from meshkit.server import MiddlewareInterceptor, TracingServerInterceptor
from meshkit.testing import FixedInstances

SERVICE = "helloworld.Greeter"
sent = []


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = ExportTraceServiceRequest.FromString(body)
        sent.extend(
            span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans
        )
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Greeter(GreeterServicer):
    async def SayHello(self, request, context):  # noqa: N802
        why = BadRequest(field_violations=[BadRequest.FieldViolation(field="name", description="too short")])
        detail = Any()
        detail.Pack(why)
        status = rpc_status.to_status(Status(code=3, message="no such name", details=[detail]))
        await context.abort_with_status(status)


async def main():
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()

    def exporter():
        return OTLPSpanExporter(endpoint=f"http://127.0.0.1:{collector.server_port}/v1/traces")

    async with (
        meshkit.open_tracer("client", exporter=exporter()) as client,
        meshkit.open_tracer("server", exporter=exporter()) as tracer,
        meshkit.serve(
            lambda server: add_GreeterServicer_to_server(Greeter(), server),
            [SERVICE],
            listen="127.0.0.1:0",
            interceptors=[TracingServerInterceptor(tracer, [SERVICE]), MiddlewareInterceptor(None, [SERVICE])],
            drain=0,
        ) as port,
        MeshChannel(FixedInstances(f"127.0.0.1:{port}"), client) as channel,
    ):
        try:
            await GreeterStub(channel).SayHello(HelloRequest(name=""), timeout=20, wait_for_ready=True)
        except grpc.RpcError as error:
            for detail in rpc_status.from_call(error).details:
                why = BadRequest()
                detail.Unpack(why)
                print("error", error.code().name, why.field_violations[0].field, why.field_violations[0].description)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as plain:
            listed = await HealthStub(plain).List(HealthListRequest())
            print("health", sorted(listed.statuses), {answer.status for answer in listed.statuses.values()})
    collector.shutdown()
    collector.server_close()
    print("traces", len({span.trace_id for span in sent}), "spans", len(sent))
    print("protobuf", google.protobuf.__version__)


asyncio.run(main())
