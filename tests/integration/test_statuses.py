"""What a handler does, and which status its caller gets for it, in the answer and in the span alike."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from meshkit import MiddlewareInterceptor, TracingServerInterceptor, serve
from meshkit.client import instance_channel
from meshkit.errors import MAX_DETAILS, FailedAttempt, NoEndpointsError, RetryError
from meshkit.server import HandlerInterceptor
from meshkit.tracing import attributes
from tests.support.fakes import rpc_error

CODES = grpc.StatusCode
SERVICE, METHOD = "p.S", "/p.S/Do"
SECRET = "the password is 1234"
LONG = "connection refused; " * 1200

Context = grpc.aio.ServicerContext[Any, Any]


class StrangeError(BaseException):
    pass


async def aborts(_: Any, context: Context) -> None:
    await context.abort(CODES.NOT_FOUND, "no such book")


async def aborts_at_length(_: Any, context: Context) -> None:
    await context.abort(CODES.UNAVAILABLE, LONG)


async def suppresses_its_abort(_: Any, context: Context) -> None:
    with suppress(grpc.aio.AbortError):
        await context.abort(CODES.NOT_FOUND, "no such book")


async def aborts_then_fails(_: Any, context: Context) -> None:
    try:
        await context.abort(CODES.NOT_FOUND, "no such book")
    except grpc.aio.AbortError:
        raise KeyError(SECRET) from None


async def sets_a_code(_: Any, context: Context) -> None:
    context.set_code(CODES.FAILED_PRECONDITION)
    context.set_details("closed on Sundays")


async def sets_a_code_and_raises(_: Any, context: Context) -> None:
    context.set_code(CODES.FAILED_PRECONDITION)
    context.set_details("closed on Sundays")
    raise KeyError(SECRET)


async def sets_long_details(_: Any, context: Context) -> None:
    context.set_code(CODES.UNAVAILABLE)
    context.set_details(LONG)


async def calls_what_is_not_there(_: Any, context: Context) -> None:
    async with instance_channel("127.0.0.1:1") as channel:
        call: Any = channel.unary_unary(METHOD)
        await call(b"")


async def calls_over_a_closed_channel(_: Any, context: Context) -> StringValue:
    channel = instance_channel("127.0.0.1:1")
    call: Any = channel.unary_unary(METHOD)
    waiting = asyncio.ensure_future(_awaited(call(b"", wait_for_ready=True)))
    await asyncio.sleep(0.05)
    await channel.close()
    return StringValue(value=str(await waiting))


async def _awaited(call: Any) -> Any:
    return await call


async def takes_too_long(_: Any, context: Context) -> StringValue:
    async with asyncio.timeout(0.01):
        await asyncio.sleep(60)
    return StringValue()


async def returns_nothing(_: Any, context: Context) -> None:
    pass


async def returns_something_else(_: Any, context: Context) -> str:
    return "a string"


async def answers(_: Any, context: Context) -> StringValue:
    context.set_code(CODES.OK)
    return StringValue(value="here you are")


def raises(error: BaseException) -> Callable[[Any, Context], Any]:
    async def handler(_: Any, context: Context) -> StringValue:
        raise error

    return handler


RETRIED = RetryError("all 2 attempts failed", [FailedAttempt(1, "a:1", rpc_error(CODES.ABORTED, LONG), 0.1)] * 2)
HANDLERS: dict[str, tuple[Callable[..., Any], grpc.StatusCode, str]] = {
    "answers": (answers, CODES.OK, ""),
    "aborts": (aborts, CODES.NOT_FOUND, "no such book"),
    "aborts at length": (aborts_at_length, CODES.UNAVAILABLE, "connection refused; connection refused"),
    "suppresses its abort": (suppresses_its_abort, CODES.NOT_FOUND, "no such book"),
    "aborts, then fails": (aborts_then_fails, CODES.NOT_FOUND, "no such book"),
    "sets a code": (sets_a_code, CODES.FAILED_PRECONDITION, "closed on Sundays"),
    "sets a code, then raises": (sets_a_code_and_raises, CODES.FAILED_PRECONDITION, "closed on Sundays"),
    "sets long details": (sets_long_details, CODES.UNAVAILABLE, "connection refused; connection refused"),
    "mesh error": (raises(NoEndpointsError("nobody is there")), CODES.UNAVAILABLE, "nobody is there"),
    "long mesh error": (raises(NoEndpointsError(LONG)), CODES.UNAVAILABLE, "connection refused"),
    "long error in Chinese": (raises(NoEndpointsError("微服务入门到精通" * 500)), CODES.UNAVAILABLE, "微服务"),
    "error of a retry": (raises(RETRIED), CODES.ABORTED, "all 2 attempts failed: #1 a:1 ABORTED"),
    "error of a call": (raises(rpc_error(CODES.ALREADY_EXISTS, "once is enough")), CODES.ALREADY_EXISTS, "once is en"),
    "call to nobody": (calls_what_is_not_there, CODES.UNAVAILABLE, "Connection refused"),
    "call over a closed channel": (calls_over_a_closed_channel, CODES.UNKNOWN, "CancelledError in the handler"),
    "time-out": (takes_too_long, CODES.DEADLINE_EXCEEDED, "TimeoutError"),
    "error of its own": (raises(KeyError(SECRET)), CODES.UNKNOWN, "KeyError in the handler"),
    "cancellation of its own": (raises(asyncio.CancelledError()), CODES.UNKNOWN, "CancelledError in the handler"),
    "strange error": (raises(StrangeError(SECRET)), CODES.UNKNOWN, "StrangeError in the handler"),
    "nothing": (returns_nothing, CODES.INTERNAL, "the answer cannot be encoded"),
    "something else": (returns_something_else, CODES.INTERNAL, "the answer cannot be encoded"),
}


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> TracingServerInterceptor:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return TracingServerInterceptor(provider.get_tracer("test"), [SERVICE])


async def status(
    handler: Callable[..., Any], interceptors: Sequence[HandlerInterceptor], request: bytes = b""
) -> tuple[grpc.StatusCode, str]:
    """What a caller without a deadline hears."""
    coded = grpc.unary_unary_rpc_method_handler(
        handler, request_deserializer=StringValue.FromString, response_serializer=StringValue.SerializeToString
    )

    def add(server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Do": coded}),))

    async with (
        # The answer may be there before the handler has ended, and with it its span.
        serve(add, [SERVICE], listen="127.0.0.1:0", interceptors=interceptors, drain=0, grace=10) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        asyncio.timeout(30),
    ):
        make_call: Any = channel.unary_unary(METHOD)
        call = make_call(request)
        return await call.code(), await call.details()


@pytest.mark.parametrize("traced", ["traced", "with a middleware", "both"])
@pytest.mark.parametrize("name", HANDLERS)
async def test_a_handlers_failure_has_its_status_in_the_answer_and_in_the_span(
    name: str, traced: str, tracing: TracingServerInterceptor, spans: InMemorySpanExporter
) -> None:
    handler, code, text = HANDLERS[name]
    middleware = MiddlewareInterceptor(None, [SERVICE])
    combinations: dict[str, list[HandlerInterceptor]] = {
        "traced": [tracing],
        "with a middleware": [middleware],
        "both": [tracing, middleware],
    }
    with capture_logs() as logs:
        seen, details = await status(handler, combinations[traced])
    assert (seen, details[: len(text)] if "Connection refused" not in text else text) == (code, text)
    assert SECRET not in details
    assert len(details.encode()) <= MAX_DETAILS
    for span in spans.get_finished_spans():
        assert (span.attributes or {})[attributes.RPC_STATUS_CODE] == code.value[0]
    assert len(spans.get_finished_spans()) == (traced != "with a middleware")
    # What is not for the caller is for the log.
    own = [entry for entry in logs if entry["event"] in {"handler failed", "answer not sent"}]
    assert bool(own) == (code in {CODES.UNKNOWN, CODES.INTERNAL})


@pytest.mark.parametrize("traced", ["traced", "with a middleware"])
async def test_a_request_that_cannot_be_decoded_is_internal_in_the_answer_and_in_the_span(
    traced: str, tracing: TracingServerInterceptor, spans: InMemorySpanExporter
) -> None:
    interceptor = tracing if traced == "traced" else MiddlewareInterceptor(None, [SERVICE])
    assert await status(answers, [interceptor], b"\x0a\xff") == (CODES.INTERNAL, "malformed request: DecodeError")
    for span in spans.get_finished_spans():
        assert (span.attributes or {})[attributes.RPC_STATUS_CODE] == CODES.INTERNAL.value[0]


async def test_what_a_middleware_raises_has_its_status_too(
    tracing: TracingServerInterceptor, spans: InMemorySpanExporter
) -> None:
    def refusing(_: Any) -> Any:
        return raises_in_endpoint

    async def raises_in_endpoint(request: StringValue) -> Any:
        raise NoEndpointsError(f"{request.value} is not at home")

    request = StringValue(value="Ada").SerializeToString()
    interceptors = [tracing, MiddlewareInterceptor(refusing, [SERVICE])]
    assert await status(answers, interceptors, request) == (CODES.UNAVAILABLE, "Ada is not at home")
