"""A program in the mesh: tracing, etcd and discovery, opened together.

A client of any generated stub, and a server of any generated servicer:

    async with Mesh("shop") as mesh, mesh.channel("greeter") as channel:
        await GreeterStub(channel).SayHello(HelloRequest(name="world"), timeout=1)

    run_async(Mesh("greeter", address="127.0.0.1:6001").run(add_greeter))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import Any, Self

import grpc
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import NoOpTracer, Tracer

from meshkit.admin.server import Admin
from meshkit.client.mesh_channel import MeshChannel
from meshkit.discovery.instancer import Instancer
from meshkit.discovery.registrar import Registrar
from meshkit.endpoint import Middleware
from meshkit.etcd.api import Etcd
from meshkit.etcd.client import EtcdClient
from meshkit.metrics.calls import ClientMetrics, ServerMetrics
from meshkit.metrics.sources import ClientSources, Sources
from meshkit.middleware.breaker import HystrixBreaker
from meshkit.middleware.ratelimit import DelayingLimiter
from meshkit.program.runtime import stop_signal
from meshkit.server.added import AddedServices
from meshkit.server.interceptor import MiddlewareInterceptor
from meshkit.server.serving import serve
from meshkit.server.spans import TracingServerInterceptor
from meshkit.tracing.processor import span_processors_of
from meshkit.tracing.provider import open_tracer
from meshkit.tracing.settings import TraceSettings

__all__ = ["Mesh"]


class Mesh:
    """What a program needs to call others, and to be called: use it with `async with`.

    Args:
        name: the program's. Its spans have it, and what it serves is found by it.
        address: `host:port` that others reach it at; for servers.
        etcd: addresses of etcd's members, or an `Etcd` that is opened and closed elsewhere. Default 127.0.0.1:2379.
        zipkin: the collector's URL, e.g. `http://127.0.0.1:9411/api/v2/spans`. Default None: trace contexts are
            passed on, nothing is recorded.
        exporter: takes the spans instead of Zipkin, see `open_tracer`.
        settings: how to trace, instead of `zipkin` alone, see `TraceSettings`.
        prefix: of all keys in etcd; the instances of a service are at `<prefix><name>/`. Default `/services/`.
        admin: `host:port` of an admin port, with metrics and the live page. Default: none.
        sources: are filled with what there is to tell, for metrics. Default: nothing is counted, unless
            `admin` is given.
    """

    def __init__(
        self,
        name: str,
        *,
        address: str | None = None,
        etcd: Etcd | Sequence[str] = ("127.0.0.1:2379",),
        zipkin: str | None = None,
        exporter: SpanExporter | None = None,
        settings: TraceSettings | None = None,
        prefix: str = "/services/",
        admin: str | None = None,
        sources: Sources | None = None,
    ) -> None:
        if isinstance(etcd, str):
            raise TypeError(f"expected a list of host:port, got {etcd!r}")
        self.name = name
        self.address = address
        self.tracer: Tracer = NoOpTracer()
        self._tracing = open_tracer(name, address=address, zipkin=zipkin, exporter=exporter, settings=settings)
        self._etcd = etcd
        self._prefix = prefix
        self._admin = admin
        self._zipkin = zipkin if settings is None else settings.zipkin
        self._sources = sources or (Sources(name) if admin else None)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.tracer = await self._stack.enter_async_context(self._tracing)
        if isinstance(self._etcd, Sequence):
            self._etcd = await self._stack.enter_async_context(EtcdClient(self._etcd))
        if self._sources is not None:
            self._sources.spans = span_processors_of(self.tracer)
            self._sources.etcd = self._etcd if isinstance(self._etcd, EtcdClient) else None
            if self._admin is not None:
                admin = Admin(
                    self._admin, self._sources, tracer=self.tracer, zipkin=self._zipkin, instance=self.address or ""
                )
                await self._stack.enter_async_context(admin)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def etcd(self) -> Etcd:
        """The connection to etcd, while the mesh is open."""
        if isinstance(self._etcd, Sequence):
            raise RuntimeError("the mesh is not open: use it with `async with`")  # noqa: TRY004 - not of the wrong type
        return self._etcd

    @asynccontextmanager
    async def channel(self, name: str, **options: Any) -> AsyncIterator[MeshChannel]:
        """Open a channel to all instances of a service, for its generated stub.

        Its first call waits for nothing: where no instance is known yet, it fails. `wait_for_ready=True` at the call,
        or `await channel.channel_ready()` before, waits.

        Args:
            name: what its servers are called, e.g. `greeter`.
            options: as keywords of MeshChannel, e.g. `idempotent=["helloworld.Greeter/SayHello"]`.
        """
        prefix = f"{self._prefix}{name}/"
        metrics = None if self._sources is None else ClientMetrics(f"etcd://{prefix}")
        async with (
            Instancer(self.etcd, prefix) as instances,
            MeshChannel(instances, self.tracer, metrics=metrics, **options) as channel,
        ):
            if self._sources is None or metrics is None:
                yield channel
                return
            middleware = options.get("middleware")
            client = ClientSources(
                metrics=metrics,
                endpoints=channel.endpointer,
                discovery=instances,
                budget=channel.budget,
                breaker=middleware if isinstance(middleware, HystrixBreaker) else None,
            )
            with self._sources.telling(client):
                yield channel

    def serve(
        self,
        add_services: Callable[[grpc.aio.Server], None],
        *,
        listen: str | None = None,
        middleware: Middleware[Any, Any] | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        lease_ttl: int = 10,
        **options: Any,
    ) -> AbstractAsyncContextManager[int]:
        """Serve while the body runs: registered in etcd, traced, under the deadlines of its callers.

        Args:
            add_services: adds the servicers, e.g. `lambda server: add_GreeterServicer_to_server(Greeter(), server)`.
            listen: `host:port` to listen on. Default: the mesh's `address`.
            middleware: around each call, e.g. a limiter. Default: none.
            interceptors: gRPC's own, innermost. Health and reflection pass them too.
            lease_ttl: seconds until the registration of a killed server ends. Default 10.
            options: as keywords of `meshkit.serve`, e.g. `grace=30`.

        Raises:
            ValueError: the mesh has no `address`, or no service is added.
        """
        if self.address is None:
            raise ValueError('a server needs an address that others reach it at: Mesh(name, address="host:port")')
        added = AddedServices(add_services)
        if not added.names:
            raise ValueError("expected services to serve, none was added")
        registrar = Registrar(self.etcd, f"{self._prefix}{self.name}/", self.address, ttl=lease_ttl)
        metrics = None
        if self._sources is not None:
            metrics = self._sources.server = ServerMetrics()
            self._sources.registration = registrar
            self._sources.limiter = middleware if isinstance(middleware, DelayingLimiter) else None
        return serve(
            added.add_to,
            added.names,
            listen=listen or self.address,
            registrar=registrar,
            interceptors=[
                TracingServerInterceptor(self.tracer, added.names, metrics),
                MiddlewareInterceptor(middleware, added.names),
                *interceptors,
            ],
            **options,
        )

    async def run(self, add_services: Callable[[grpc.aio.Server], None], **options: Any) -> None:
        """Open the mesh, and serve until SIGINT or SIGTERM; see `serve` for the parameters."""
        with stop_signal() as stop:
            async with self, self.serve(add_services, **options):
                await stop.wait()
