"""Every attribute name that the mesh's spans carry, in one place, as the conventions for RPC are still moving.

Source: OpenTelemetry semantic conventions for RPC spans, v1.x (rpc.*, server.*); `error` is Zipkin's own tag.
"""

from __future__ import annotations

__all__ = [
    "ATTEMPT",
    "ERROR",
    "RPC_METHOD",
    "RPC_SERVICE",
    "RPC_STATUS_CODE",
    "RPC_SYSTEM",
    "SERVER_ADDRESS",
    "SERVER_PORT",
]

RPC_SYSTEM = "rpc.system"
RPC_SERVICE = "rpc.service"
RPC_METHOD = "rpc.method"
RPC_STATUS_CODE = "rpc.grpc.status_code"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
# Which attempt of its call a CLIENT span is, counted from 1.
ATTEMPT = "attempt"
# Zipkin paints spans red that have this tag, whatever its value: failures only.
ERROR = "error"
