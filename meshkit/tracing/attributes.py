"""Every attribute that the mesh's spans carry, in one place, as the conventions for RPC are still moving.

Source: OpenTelemetry semantic conventions for RPC spans, v1.x (rpc.*, server.*); `error` is Zipkin's own tag.
"""

from __future__ import annotations

import grpc
from opentelemetry.trace import Span, Status, StatusCode

__all__ = [
    "ATTEMPT",
    "ERROR",
    "MESSAGES_RECEIVED",
    "MESSAGES_SENT",
    "RPC_METHOD",
    "RPC_SERVICE",
    "RPC_STATUS_CODE",
    "RPC_SYSTEM",
    "SERVER_ADDRESS",
    "SERVER_PORT",
    "record_status",
    "rpc_attributes",
]

RPC_SYSTEM = "rpc.system"
RPC_SERVICE = "rpc.service"
RPC_METHOD = "rpc.method"
RPC_STATUS_CODE = "rpc.grpc.status_code"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
# Which attempt of its call a CLIENT span is, counted from 1.
ATTEMPT = "attempt"
# Of a stream, by whoever's span it is. (Those of one message are an event each in the conventions.)
MESSAGES_SENT = "messages.sent"
MESSAGES_RECEIVED = "messages.received"
# Zipkin shows spans with this tag in red, whatever its value: for failures only.
ERROR = "error"


def rpc_attributes(full_method: str) -> dict[str, str]:
    """What the spans of one RPC are tagged with from the start; `full_method` is e.g. `/BookService/GetBookInfo`."""
    service, _, method = full_method.lstrip("/").rpartition("/")
    return {RPC_SYSTEM: "grpc", RPC_SERVICE: service, RPC_METHOD: method}


def record_status(span: Span, code: grpc.StatusCode, details: str | None) -> None:
    """Tag a span with the call's gRPC status; anything but OK makes it a failed one."""
    span.set_attribute(RPC_STATUS_CODE, code.value[0])
    if code is not grpc.StatusCode.OK:
        span.set_status(Status(StatusCode.ERROR, f"{code.name}: {details}" if details else code.name))
