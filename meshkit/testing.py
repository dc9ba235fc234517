"""What tests of one's own services need: instances, an etcd and spans in memory, a server that fails on purpose.

Nothing here waits, or needs a program beside the test:

    async with flaky_server(add_greeter, lambda call: StatusCode.UNAVAILABLE if call == 1 else None) as address:
        async with MeshChannel(FixedInstances(address), MemorySpans().tracer, idempotent=True) as channel:
            await GreeterStub(channel).SayHello(HelloRequest(name="world"), timeout=1)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind

from meshkit.discovery.instancer import InstanceChange, Observer
from meshkit.errors import LeaseLostError
from meshkit.etcd.api import Event, KeyValue, Lease, Listing, WatchBatch
from meshkit.options import server_options
from meshkit.server.handlers import kind_of
from meshkit.tracing.provider import tracer_provider

__all__ = ["FixedInstances", "MemoryEtcd", "MemorySpans", "flaky_server"]


class FixedInstances:
    """An InstanceSource without discovery: for a MeshChannel or an Endpointer.

    Args:
        addresses: `host:port` of each instance.
    """

    def __init__(self, *addresses: str) -> None:
        self.addresses = frozenset(addresses)
        self._observers: list[Observer] = []

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """See `meshkit.client.InstanceSource`."""
        self._observers.append(observer)
        observer(InstanceChange(self.addresses, frozenset()))
        return lambda: self._observers.remove(observer)

    def change(self, *addresses: str) -> None:
        """From now on these are the instances."""
        before, self.addresses = self.addresses, frozenset(addresses)
        for observer in tuple(self._observers):
            observer(InstanceChange(self.addresses - before, before - self.addresses))


class MemorySpans(SpanProcessor):
    """A tracer, and its spans as soon as they have ended: nothing is batched or sent.

    Args:
        service: the program's name. Default `test`.
    """

    def __init__(self, service: str = "test") -> None:
        self.started = 0
        self.ended: list[ReadableSpan] = []
        provider = tracer_provider(service)
        provider.add_span_processor(self)
        self.tracer = provider.get_tracer("meshkit.testing")

    @property
    def open(self) -> int:
        """Spans that have not ended."""
        return self.started - len(self.ended)

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        """Those of one kind that have ended."""
        return [span for span in self.ended if span.kind is kind]

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the interface's
        """See `opentelemetry.sdk.trace.SpanProcessor`, as for the method below."""
        self.started += 1

    def on_end(self, span: ReadableSpan) -> None:  # noqa: D102
        self.ended.append(span)


class MemoryEtcd:
    """An `Etcd` in memory, for a Mesh, a Registrar or an Instancer. Its leases end by `revoke` only."""

    def __init__(self) -> None:
        self.keys: dict[str, KeyValue] = {}
        self._leases: dict[int, int] = {}
        self._revision = 1
        self._history: list[tuple[int, Event]] = []
        self._changed = asyncio.Event()

    async def grant(self, ttl: int, lease_id: int = 0) -> Lease:
        """See `meshkit.etcd.Etcd`, as for the methods below."""
        lease_id = lease_id or len(self._leases) + 1
        self._leases[lease_id] = ttl
        return Lease(lease_id, ttl)

    async def keep_alive(self, lease_id: int) -> int:  # noqa: D102
        if lease_id not in self._leases:
            raise LeaseLostError(f"there is no lease {lease_id:x}")
        return self._leases[lease_id]

    async def revoke(self, lease_id: int) -> None:  # noqa: D102
        if self._leases.pop(lease_id, None) is not None:
            for key in [key for key, item in self.keys.items() if item.lease == lease_id]:
                del self.keys[key]
                self._note(Event(KeyValue(key, ""), deleted=True))

    async def put(self, key: str, value: str, lease_id: int = 0) -> None:  # noqa: D102
        if lease_id and lease_id not in self._leases:
            raise LeaseLostError(f"there is no lease {lease_id:x}")
        self.keys[key] = KeyValue(key, value, lease_id)
        self._note(Event(self.keys[key]))

    async def put_if_absent(self, key: str, value: str, lease_id: int = 0) -> KeyValue | None:  # noqa: D102
        if key not in self.keys:
            await self.put(key, value, lease_id)
            return None
        return self.keys[key]

    async def list(self, prefix: str) -> Listing:  # noqa: D102
        return Listing(tuple(item for key, item in self.keys.items() if key.startswith(prefix)), self._revision)

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch]:  # noqa: D102
        seen = start_revision - 1
        while True:
            changed = self._changed
            events = tuple(event for at, event in self._history if at > seen and event.item.key.startswith(prefix))
            seen = max(seen, self._revision)
            if events:
                yield WatchBatch(events, seen)
            else:
                await changed.wait()

    def _note(self, event: Event) -> None:
        self._revision += 1
        self._history.append((self._revision, event))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@asynccontextmanager
async def flaky_server(
    add_services: Callable[[grpc.aio.Server], None], fails: Callable[[int], grpc.StatusCode | None]
) -> AsyncIterator[str]:
    """Serve on a free port of loopback, and fail on purpose; yields the address.

    Args:
        add_services: as for `meshkit.serve`.
        fails: the status that a call fails with before it reaches its handler, or None to let it pass; from the
            number of the call, counted from 1.
    """
    server = grpc.aio.server(interceptors=[_Flaky(fails)], options=server_options())
    add_services(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class _Flaky(grpc.aio.ServerInterceptor):
    def __init__(self, fails: Callable[[int], grpc.StatusCode | None]) -> None:
        self._fails = fails
        self._calls = 0

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        self._calls += 1
        number = self._calls
        code = self._fails(number)
        if code is None or handler is None:
            return handler

        async def fail(_: Any, context: Any) -> None:
            await context.abort(code, f"call {number} fails on purpose")

        return handler._replace(**{kind_of(handler): fail})
