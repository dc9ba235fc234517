"""What the admin port answers at which path; `docs/admin.md` has the messages."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from meshkit.admin.actions import RefusedActionError, body_of, check_origin
from meshkit.admin.feed import EventStream, Feed
from meshkit.admin.traces import ZipkinTraces
from meshkit.admin.view import readiness
from meshkit.errors import MeshError
from meshkit.metrics import Sources
from meshkit.metrics.collector import exposition, registry_of

__all__ = ["Routes"]

TRACE_ID = re.compile(r"[0-9a-f]{16}(?:[0-9a-f]{16})?")
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "txt": "text/plain"}
# The page needs nothing of elsewhere, and nothing of elsewhere may frame it.
HEADERS = {
    "content-security-policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
JSON = {"content-type": "application/json", "cache-control": "no-store"}


class Routes:
    """The paths, each with what answers it.

    Args:
        sources: for the metrics, and for whether the program is ready.
        traces: reads traces back; None: none can be.
        feed: of the events.
        hello: makes the first event's data.
        act: does an action, by its name and the body of the request.
        cut: ends the connection of a client (its host and port) at once.
    """

    def __init__(
        self,
        sources: Sources,
        traces: ZipkinTraces | None,
        feed: Feed,
        *,
        hello: Callable[[], Any],
        act: Callable[[str, Mapping[str, Any]], Awaitable[str]],
        cut: Callable[[Any], None],
    ) -> None:
        self._sources = sources
        self._registry = registry_of(sources)
        self._traces = traces
        self._feed = feed
        self._hello = hello
        self._act = act
        self._cut = cut

    def application(self) -> Starlette:
        """The application (ASGI)."""
        headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        events = EventStream(self._feed, self._hello, self._cut, headers)
        return Starlette(
            routes=[
                Route("/", self._asset),
                Route("/assets/{name}", self._asset),
                Route("/metrics", self._metrics),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/events", events, methods=["GET"]),
                Route("/trace/{trace_id}", self._trace),
                Route("/actions/{name}", self._action, methods=["POST"]),
            ]
        )

    async def _metrics(self, request: Request) -> Response:
        body, content_type = exposition(self._registry, request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _: Request) -> Response:
        ready, reason = readiness(self._sources)
        return PlainTextResponse(f"{reason}\n", 200 if ready else 503)

    async def _trace(self, request: Request) -> Response:
        trace_id = str(request.path_params["trace_id"])
        if not TRACE_ID.fullmatch(trace_id):
            return PlainTextResponse("expected a trace id of 16 or 32 hexadecimal digits\n", 400)
        status, body = (503, b"[]") if self._traces is None else await self._traces.get(trace_id)
        return Response(body, status, headers=JSON)

    async def _action(self, request: Request) -> Response:
        try:
            check_origin(request.headers)
            body = await body_of(request.stream())
            status, text = 200, await self._act(str(request.path_params["name"]), body)
        except RefusedActionError as error:
            status, text = error.status, str(error)
        except ValueError as error:
            status, text = 400, str(error)
        except MeshError as error:
            status, text = 502, str(error)
        return Response(json.dumps({"ok": status == 200, "text": text}), status, headers=JSON)

    async def _asset(self, request: Request) -> Response:
        name = str(request.path_params.get("name", "index.html"))
        kind = TYPES.get(name.rpartition(".")[2])
        # The folder has no folders, and a route's parameter no slash.
        file = files("meshkit.admin") / "page" / name
        if kind is None or not file.is_file():
            return PlainTextResponse("there is no such file\n", 404)
        return Response(file.read_bytes(), headers={**HEADERS, "content-type": f"{kind}; charset=utf-8"})
