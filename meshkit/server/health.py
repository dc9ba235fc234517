"""The health service of gRPC (grpc/health/v1/health.proto); a status is in force as soon as it is set.

Why not the one of grpcio-health-checking (1.48.2, grpc_health/v1/_async.py): there, setting a status waits for a lock
that is held while a watcher is written to, so a watcher that does not read keeps NOT_SERVING from all others; when one
of two watchers goes, the other gets no more updates; and no watch ever ends, so each delays the server's stop.
Its messages and their registration with a server are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

__all__ = ["NOT_SERVING", "SERVICE_NAME", "SERVING", "HealthServicer"]

SERVICE_NAME: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

Response = health_pb2.HealthCheckResponse
SERVING: int = Response.SERVING
NOT_SERVING: int = Response.NOT_SERVING


class HealthServicer:
    """Answers Check, List and Watch; add it with `health_pb2_grpc.add_HealthServicer_to_server`.

    It knows no service until one is set; "" stands for the server as a whole.
    """

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._ended = False
        # Set, and replaced, at each change: a late watcher finds it set and goes on with the latest status.
        self._changed = asyncio.Event()

    def set(self, status: int, *services: str) -> None:
        """Set the status (`SERVING` or `NOT_SERVING`) of some services. Does not wait for watchers."""
        self._statuses.update(dict.fromkeys(services, status))
        self._tell()

    def end_watches(self) -> None:
        """End each watch once it has sent the last status: a server's stop waits for all that is under way.

        Only for a server that stops next: gRPC's clients start a new watch at once when one ends. A watcher that
        does not read keeps its watch until the server's grace is over; grpc.aio has no way to take it away sooner.
        """
        self._ended = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def Check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:  # noqa: N802
        """Answer with the status; NOT_FOUND for a service that is unknown."""
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return Response(status=status)

    async def List(self, _: Any, __: grpc.aio.ServicerContext[Any, Any]) -> Any:  # noqa: N802
        """Answer with the status of each service. Newer packages of grpcio-health-checking have this call."""
        statuses = {service: Response(status=status) for service, status in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def Watch(self, request: Any, _: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:  # noqa: N802
        """Answer with the status and then with each new one; SERVICE_UNKNOWN while the service is unknown.

        A client that reads slowly misses statuses that were replaced before they could be sent.
        """
        sent = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, Response.SERVICE_UNKNOWN)
            if status != sent:
                yield Response(status=status)
                sent = status
            elif self._ended:
                return
            else:
                await changed.wait()
