"""Every attribute of the mesh's spans, in one place: by the old names of the conventions, the new ones, or both.

Sources: OpenTelemetry semantic conventions for RPC, up to v1.37 (the default) and v1.45, with its migration guide
(`docs/non-normative/rpc-migration.md`); `error` is Zipkin's own tag.
"""

from __future__ import annotations

import grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

__all__ = [
    "ATTEMPT",
    "ERROR",
    "MESSAGES_RECEIVED",
    "MESSAGES_SENT",
    "NEW",
    "OLD",
    "OLD_AND_NEW",
    "PEER_ADDRESS",
    "PEER_PORT",
    "SERVER_ADDRESS",
    "SERVER_PORT",
    "Conventions",
    "conventions_of",
    "record_status",
    "status_name",
]

RPC_SYSTEM = "rpc.system"
RPC_SERVICE = "rpc.service"
RPC_STATUS_CODE = "rpc.grpc.status_code"
NEW_RPC_SYSTEM = "rpc.system.name"
NEW_RPC_STATUS_CODE = "rpc.status_code"
ERROR_TYPE = "error.type"
# The method alone in the old conventions, `Service/Method` in the new.
RPC_METHOD = "rpc.method"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
PEER_ADDRESS = "network.peer.address"
PEER_PORT = "network.peer.port"
# Which attempt of its call a CLIENT span is, counted from 1.
ATTEMPT = "attempt"
# Of a stream, by whoever's span it is. (Those of one message are an event each in the conventions.)
MESSAGES_SENT = "messages.sent"
MESSAGES_RECEIVED = "messages.received"
# Zipkin shows spans with this tag in red, whatever its value: for failures only.
ERROR = "error"

# A server has failed with these; the others tell of the request, of the caller, or of a limiter that does its work.
SERVER_ERRORS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class Conventions:
    """Which names a span's facts have.

    Args:
        old: those up to v1.37.
        new: those since; where both have a name in common (`rpc.method`), the new value stands under it.
    """

    def __init__(self, *, old: bool, new: bool) -> None:
        self.old = old
        self.new = new

    def call(self, full_method: str) -> dict[str, str | int]:
        """What spans of one RPC are tagged with from the start; `full_method` is e.g. `/BookService/GetBookInfo`."""
        name = full_method.lstrip("/")
        service, _, method = name.rpartition("/")
        tags: dict[str, str | int] = {}
        if self.old:
            tags |= {RPC_SYSTEM: "grpc", RPC_SERVICE: service, RPC_METHOD: method}
        if self.new:
            tags |= {NEW_RPC_SYSTEM: "grpc", RPC_METHOD: name}
        return tags

    def server(self, host: str, port: int) -> dict[str, str | int]:
        """What a CLIENT span tells of the instance that it calls."""
        tags: dict[str, str | int] = {SERVER_ADDRESS: host, SERVER_PORT: port}
        return tags | {PEER_ADDRESS: host, PEER_PORT: port} if self.new else tags


OLD = Conventions(old=True, new=False)
NEW = Conventions(old=False, new=True)
OLD_AND_NEW = Conventions(old=True, new=True)


def conventions_of(made: Tracer | Span) -> Conventions:
    """The conventions of a tracer or of a span; of those of others, the old ones."""
    found: Conventions = getattr(made, "conventions", OLD)
    return found


def record_status(span: Span, code: grpc.StatusCode, details: str | None) -> None:
    """Tag a span with the call's gRPC status.

    Anything but OK makes it a failed one, on a SERVER span only those statuses that the conventions call errors there.
    """
    conventions = conventions_of(span)
    if conventions.old:
        span.set_attribute(RPC_STATUS_CODE, code.value[0])
    if conventions.new:
        span.set_attribute(NEW_RPC_STATUS_CODE, code.name)
    if code is grpc.StatusCode.OK:
        return
    if getattr(span, "kind", None) is SpanKind.SERVER and code not in SERVER_ERRORS:
        return
    if conventions.new:
        span.set_attribute(ERROR_TYPE, code.name)
    span.set_status(Status(StatusCode.ERROR, f"{code.name}: {details}" if details else code.name))


def status_name(span: ReadableSpan) -> str:
    """The name of the gRPC status that `record_status` has tagged a span with; OK where it has not."""
    attributes = span.attributes or {}
    number = attributes.get(RPC_STATUS_CODE)
    return _NAMES.get(number, "UNKNOWN") if number else str(attributes.get(NEW_RPC_STATUS_CODE, "OK"))


_NAMES: dict[object, str] = {code.value[0]: code.name for code in grpc.StatusCode}
