"""What the interceptors and the programs do with spans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from meshkit.errors import status_of
from meshkit.tracing import attributes as names

__all__ = ["root_span", "trace_id_of"]


@contextmanager
def root_span(tracer: Tracer, name: str) -> Iterator[Span]:
    """Make a span, by itself or under the current one, for a whole call: all its attempts, or its refusal.

    Whatever error leaves the body is the span's `error`, and its gRPC status is tagged: so a call that an open
    breaker refused, or for which no instance was known, has its trace as well.
    """
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
        try:
            yield span
        except Exception as error:
            record_status(span, status_of(error), str(error))
            raise


def trace_id_of(span: Span) -> str:
    """The trace id as Zipkin shows it: 32 hexadecimal digits, 16 where the caller sent a 64-bit one."""
    trace_id = span.get_span_context().trace_id
    return f"{trace_id:0{32 if trace_id >> 64 else 16}x}"


def start_rpc_span(tracer: Tracer, kind: SpanKind, full_method: str) -> Span:
    """Start the span of one RPC, `BookService/GetBookInfo` for the method `/BookService/GetBookInfo`."""
    service, _, method = full_method.lstrip("/").rpartition("/")
    return tracer.start_span(
        f"{service}/{method}",
        kind=kind,
        attributes={names.RPC_SYSTEM: "grpc", names.RPC_SERVICE: service, names.RPC_METHOD: method},
    )


def record_status(span: Span, code: grpc.StatusCode, details: str | None) -> None:
    """Tag a span with the call's gRPC status; anything but OK makes it a failed one."""
    span.set_attribute(names.RPC_STATUS_CODE, code.value[0])
    if code is not grpc.StatusCode.OK:
        span.set_status(Status(StatusCode.ERROR, f"{code.name}: {details}" if details else code.name))
