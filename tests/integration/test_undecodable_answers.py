"""An answer that cannot be decoded is INTERNAL for the caller and for its span, whichever channel it comes over."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from meshkit import serve
from meshkit.client import TracingClientInterceptor, instance_channel
from meshkit.tracing import attributes

CHANNELS: dict[str, Callable[[str, Tracer], grpc.aio.Channel]] = {
    "untraced channel": lambda address, _: instance_channel(address),
    "traced channel": instance_channel,
    "interceptor": lambda address, tracer: grpc.aio.insecure_channel(
        address, interceptors=[TracingClientInterceptor(tracer, address)]
    ),
}


async def answers_badly(_request: bytes, _: Any) -> bytes:
    return b"\x0a\xff"


@pytest.mark.parametrize("kind", CHANNELS)
async def test_an_answer_that_cannot_be_decoded_is_internal_for_caller_and_span(kind: str) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    handlers: dict[str, Any] = {"Do": grpc.unary_unary_rpc_method_handler(answers_badly)}

    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("p.S", handlers),))

    async with (
        serve(add, ["p.S"], listen="127.0.0.1:0", drain=0, grace=0) as port,
        CHANNELS[kind](f"127.0.0.1:{port}", provider.get_tracer("test")) as channel,
    ):
        call: Any = channel.unary_unary("/p.S/Do", response_deserializer=StringValue.FromString)
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call(b"", timeout=20)
    assert failure.value.code() is grpc.StatusCode.INTERNAL
    codes = [(span.attributes or {})[attributes.RPC_STATUS_CODE] for span in spans.get_finished_spans()]
    assert codes == ([] if kind == "untraced channel" else [grpc.StatusCode.INTERNAL.value[0]])
