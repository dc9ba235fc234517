"""The admin port of a program: opened with it, and closed with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

import structlog
from opentelemetry.trace import Tracer

from meshkit.admin.actions import Action, RefusedActionError
from meshkit.admin.feed import Feed
from meshkit.admin.last_calls import Call, LastCalls
from meshkit.admin.traces import ZipkinTraces
from meshkit.admin.view import MeshView
from meshkit.background import end_task
from meshkit.metrics import Sources
from meshkit.program.admin_flags import AdminFlags
from meshkit.server.port import listening_sockets
from meshkit.tracing import TraceSettings, span_processors_of

__all__ = ["Admin", "admin_port"]

log = structlog.stdlib.get_logger(__name__)

# Seconds between two looks at the mesh, and between two tellings of its state where nothing happens.
LOOK, TELL = 0.25, 1.0
CONNECTIONS = 200


class Admin:
    """The admin port of a program: `/metrics`, `/healthz`, `/readyz`, and the live page; use it with `async with`.

    No call waits for it: figures are read where they are kept anyway, and a reader that is slow is dropped. It has no
    password and no TLS: give it an address that only those reach who may see it.

    Args:
        listen: `host:port`; port 0 takes a free one.
        sources: what there is to tell. They may be filled in later.
        tracer: its spans tell of the last calls. Default: no calls are told.
        zipkin: the collector's URL, to read traces back from. Default: none can be looked at.
        zipkin_page: where people open Zipkin. Default: at `zipkin`.
        instance: the program's own address, for the page.
        actions: what can be done from the page. Default: nothing.
        actions_off: why nothing can be done, in a sentence for the page.

    Raises:
        OSError: the port cannot be bound; says which, and why.
    """

    def __init__(
        self,
        listen: str,
        sources: Sources,
        *,
        tracer: Tracer | None = None,
        zipkin: str | None = None,
        zipkin_page: str | None = None,
        instance: str = "",
        actions: Mapping[str, Action] | None = None,
        actions_off: str | None = None,
    ) -> None:
        self.port = 0
        # May be filled in later.
        self.actions: dict[str, Action] = dict(actions or {})
        self._listen = listen
        self._sources = sources
        self._traces = ZipkinTraces(zipkin) if zipkin else None
        self._zipkin_page = zipkin_page or (self._traces and self._traces.page)
        self._instance = instance
        self._actions_off = actions_off or "actions are off"
        self._feed = Feed()
        self._calls = LastCalls()
        self._view = MeshView(sources, self._calls)
        # Not where spans are sent nowhere: none are made there.
        if tracer is not None and span_processors_of(tracer):
            tracer.provider.add_span_processor(self._calls)  # type: ignore[attr-defined]

    async def __aenter__(self) -> Self:
        # Only programs with an admin port pay for these imports.
        from meshkit.admin.http import HttpServer  # noqa: PLC0415
        from meshkit.admin.routes import Routes  # noqa: PLC0415

        sockets = await listening_sockets(self._listen)
        self.port = sockets[0].getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._calls.told = self._tell_call
        self._server = HttpServer(CONNECTIONS)
        routes = Routes(self._sources, self._traces, self._feed, hello=self._hello, act=self._act, cut=self._server.cut)
        await self._server.start(routes.application(), sockets)
        self._looking = asyncio.create_task(self._look(), name="admin")
        log.info("admin", listen=self._listen, port=self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._calls.told = None
        await end_task(self._looking)
        self._feed.close()
        await self._server.stop()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        while True:
            try:
                marks = self._view.look()
                for mark in marks:
                    self._feed.publish("mark", mark)
                if marks or loop.time() >= told_at + TELL - LOOK / 2:
                    told_at = loop.time()
                    self._feed.publish("state", self._view.tell())
            except Exception as error:  # whatever it is: the page must not end with it
                log.exception("mesh not looked at", reason=repr(error))
            await asyncio.sleep(LOOK)

    def _tell_call(self, call: Call) -> None:
        # Spans may end in any thread.
        if self._feed.read:
            self._loop.call_soon_threadsafe(self._feed.publish, "call", call)

    def _hello(self) -> dict[str, Any]:
        clients = self._sources.clients
        return {
            "program": self._sources.program,
            "version": self._sources.version,
            "instance": self._instance,
            "service": clients[0].metrics.target if clients else None,
            "now": self._view.now(),
            "zipkin_ui": self._zipkin_page,
            "actions": sorted(self.actions),
            "actions_off": None if self.actions else self._actions_off,
            "history": list(self._view.history),
            "marks": list(self._view.marks),
            "calls": list(self._calls.kept),
        }

    async def _act(self, name: str, body: Mapping[str, Any]) -> str:
        """Do an action; the text that says so."""
        action = self.actions.get(name)
        if action is None:
            why = f"there is no action {name!r}" if self.actions else self._actions_off
            raise RefusedActionError(404, why)
        text = await action(body)
        instance = body.get("instance")
        mark = self._view.mark("action", f"{name}: {text}", instance if isinstance(instance, str) else None)
        self._feed.publish("mark", mark)
        return text


def admin_port(
    flags: AdminFlags, sources: Sources | None, tracer: Tracer, tracing: TraceSettings, **options: Any
) -> AbstractAsyncContextManager[Admin | None]:
    """The admin port that a program's flags ask for, or none; the other parameters are those of Admin."""
    if flags.listen is None or sources is None:
        return nullcontext()
    zipkin = tracing.zipkin if "zipkin" in tracing.exporters else None
    return Admin(flags.listen, sources, tracer=tracer, zipkin=zipkin, zipkin_page=flags.zipkin, **options)
