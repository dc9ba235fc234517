"""What a program has that can tell something of itself: for its metrics, and for whatever else shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from meshkit.metrics.calls import ClientMetrics, ServerMetrics
from meshkit.middleware.breaker import HystrixBreaker
from meshkit.middleware.ratelimit import DelayingLimiter
from meshkit.tracing.processor import ResendingSpanProcessor

__all__ = ["ClientSources", "Sources"]

# The interfaces of what lives above this room.


class Instance(Protocol):
    """See `meshkit.client.InstanceEndpoint`."""

    @property
    def instance(self) -> str: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def ejected(self) -> bool: ...
    @property
    def ejected_for(self) -> float: ...


class Instances(Protocol):
    """See `meshkit.client.Endpointer`."""

    @property
    def ejections(self) -> Mapping[str, int]: ...
    @property
    def known(self) -> Sequence[str]: ...
    @property
    def endpoints(self) -> Sequence[Instance]: ...
    @property
    def leaving(self) -> Sequence[Instance]: ...


class Budget(Protocol):
    """See `meshkit.client.RetryBudget`."""

    @property
    def tokens(self) -> float: ...
    @property
    def reserve(self) -> int: ...


class Discovery(Protocol):
    """See `meshkit.Instancer`."""

    @property
    def stale(self) -> bool: ...
    @property
    def listings(self) -> int: ...


class Registration(Protocol):
    """See `meshkit.Registrar`."""

    @property
    def renewals(self) -> int: ...
    @property
    def registered(self) -> bool: ...


class Registry(Protocol):
    """See `meshkit.EtcdClient`."""

    @property
    def away_since(self) -> float | None: ...


@dataclass(slots=True, kw_only=True)
class ClientSources:
    """What calls one service.

    Args:
        metrics: counts the calls, and names the target.
        endpoints: the instances.
        discovery: where they come from. Default None: not from etcd.
        budget: of retries. Default None: not told.
        breaker: around whole calls. Default None: none.
    """

    metrics: ClientMetrics
    endpoints: Instances
    discovery: Discovery | None = None
    budget: Budget | None = None
    breaker: HystrixBreaker | None = None


@dataclass(slots=True)
class Sources:
    """What a program has, filled in as it is opened; what is not there is not told.

    Args:
        program: its name.
        version: its version.
        clients: one for each service that is called.
        server: counts the calls that the program handles.
        limiter: of those calls.
        registration: of the server.
        etcd: a connection to it.
        spans: send the spans, see `span_processors_of`.
    """

    program: str
    version: str = ""
    clients: list[ClientSources] = field(default_factory=list)
    server: ServerMetrics | None = None
    limiter: DelayingLimiter | None = None
    registration: Registration | None = None
    etcd: Registry | None = None
    spans: Sequence[ResendingSpanProcessor] = ()

    @contextmanager
    def telling(self, client: ClientSources) -> Iterator[None]:
        """Tell of a client while the body runs."""
        self.clients.append(client)
        try:
            yield
        finally:
            self.clients = [other for other in self.clients if other is not client]
