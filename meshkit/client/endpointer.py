"""Turns the instances of a service into endpoints that can be called."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Generic, Protocol, Self

import structlog

from meshkit.background import end_tasks
from meshkit.backoff import Backoff
from meshkit.client.ejection import instance_breaker
from meshkit.client.instance import Factory, InstanceEndpoint
from meshkit.discovery.instancer import InstanceChange, Observer
from meshkit.endpoint import Request, Response
from meshkit.middleware.breaker import HystrixBreaker

__all__ = ["Endpointer", "InstanceSource"]

log = structlog.stdlib.get_logger(__name__)


class InstanceSource(Protocol):
    """Where instances come from: an Instancer, or anything else that reports changes."""

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell `observer` of all instances known now and of each change; returns the function that stops it."""


class Endpointer(Generic[Request, Response]):
    """Keeps one endpoint for each instance, across all changes of the set.

    A new instance beside others is ready once it is connected, as with gRPC's own balancers. It may not be reachable
    yet (a firewall may learn of it later than clients do), and no call is spent on finding out.

    Args:
        source: an Instancer (entered, or entered later).
        factory: makes an instance's endpoint; an async context manager, left once the instance is gone and the
            calls in flight have ended. Typically opens a channel. Where it fails it is tried again, with backoff,
            until the instance is gone; a slow one delays no other instance.
        backoff: between tries of one factory. Default cap 1 s.
        drain: seconds that calls in flight to an instance that is gone may still take; then they fail with CutOffError,
            which a Retry repeats elsewhere. Default 30.
        breaker: makes the breaker that judges an instance, from its `host:port`. Default `instance_breaker`; None:
            instances are not judged.
    """

    def __init__(
        self,
        source: InstanceSource,
        factory: Factory[Request, Response],
        *,
        backoff: Backoff | None = None,
        drain: float = 30.0,
        breaker: Callable[[str], HystrixBreaker] | None = instance_breaker,
    ) -> None:
        self._source = source
        self._factory = factory
        self._breaker = breaker
        self._backoff = backoff or Backoff()
        self._drain = drain
        self._endpoints: list[InstanceEndpoint[Request, Response]] = []
        self._position: dict[str, int] = {}
        self._until_gone: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._offered = asyncio.Event()
        # Of all instances so far, by what gave them away; see `HystrixBreaker.opened_by`.
        self.ejections: Counter[str] = Counter()
        self._draining: set[InstanceEndpoint[Request, Response]] = set()
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def endpoints(self) -> list[InstanceEndpoint[Request, Response]]:
        """The endpoints ready for use, in no particular order. This is the live list: do not change it."""
        return self._endpoints

    @property
    def known(self) -> list[str]:
        """The `host:port` of each instance that the source names, with those whose endpoints are still to be made."""
        return list(self._until_gone)

    @property
    def leaving(self) -> list[InstanceEndpoint[Request, Response]]:
        """The endpoints of instances that are gone while calls to them still end."""
        return [endpoint for endpoint in self._draining if endpoint.instance not in self._until_gone]

    async def wait_endpoints(self) -> None:
        """Wait until there is at least one endpoint."""
        while not self._endpoints:
            self._offered.clear()
            await self._offered.wait()

    async def __aenter__(self) -> Self:
        self._unsubscribe = self._source.subscribe(self._update)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        await end_tasks(tuple(self._tasks))

    def renew(self) -> None:
        """Replace every endpoint, e.g. because certificates have changed.

        Each stays in use until its successor is made, and is closed once its calls in flight have ended.
        """
        for instance in tuple(self._until_gone):
            self._start(instance)

    def _update(self, change: InstanceChange) -> None:
        for instance in change.removed:
            self._until_gone.pop(instance).set()
            self._withdraw(instance)
        # The first ones may all be called at once: otherwise the one that connects first would get the first calls.
        joining = bool(self._endpoints)
        for instance in change.added:
            self._start(instance, connect_first=joining)

    def _start(self, instance: str, *, connect_first: bool = False) -> None:
        predecessor = self._until_gone.get(instance)
        gone = self._until_gone[instance] = asyncio.Event()
        life = self._keep(instance, gone, predecessor, connect_first=connect_first)
        task = asyncio.create_task(life, name=f"endpoint {instance}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(
        self, instance: str, gone: asyncio.Event, predecessor: asyncio.Event | None, *, connect_first: bool
    ) -> None:
        """One endpoint's life: made, in use until it is gone or has a successor, drained, closed."""
        try:
            await self._make_and_use(instance, gone, predecessor, connect_first=connect_first)
        finally:
            if predecessor is not None:
                predecessor.set()

    async def _make_and_use(
        self, instance: str, gone: asyncio.Event, predecessor: asyncio.Event | None, *, connect_first: bool
    ) -> None:
        failures = 0
        while not gone.is_set():
            try:
                async with self._factory(instance) as endpoint:
                    # Gone while the factory was at work? Then it must not appear at all.
                    if not gone.is_set():
                        failures = 0
                        offered = InstanceEndpoint(
                            instance,
                            endpoint,
                            breaker=self._judge_of(instance),
                            connect_first=connect_first,
                        )
                        self._offer(offered)
                        if predecessor is not None:
                            predecessor.set()
                        await gone.wait()
                        await self._let_finish(offered)
            except Exception as error:  # noqa: BLE001 - the factory is the user's: whatever it raises, try again
                failures += 1
                delay = self._backoff.delay(failures)
                log.warning("endpoint not made", instance=instance, reason=repr(error), retry_in=round(delay, 3))
                await _wait(gone.wait(), delay)

    def _judge_of(self, instance: str) -> HystrixBreaker | None:
        if self._breaker is None:
            return None
        breaker = self._breaker(instance)
        breaker.listen(self._count_ejection)
        return breaker

    def _count_ejection(self, breaker: HystrixBreaker, old: str, new: str) -> None:
        # A probe that fails makes an ejection longer, and no other one of it.
        if (old, new) == ("closed", "open"):
            self.ejections[breaker.opened_by] += 1

    async def _let_finish(self, endpoint: InstanceEndpoint[Request, Response]) -> None:
        self._draining.add(endpoint)
        try:
            if not await _wait(endpoint.drained(), self._drain):
                log.warning("calls cut off", instance=endpoint.instance, in_flight=endpoint.in_flight)
        finally:
            self._draining.discard(endpoint)

    def _offer(self, endpoint: InstanceEndpoint[Request, Response]) -> None:
        position = self._position.get(endpoint.instance)
        if position is not None:
            self._endpoints[position] = endpoint
            return
        self._position[endpoint.instance] = len(self._endpoints)
        self._endpoints.append(endpoint)
        self._offered.set()

    def _withdraw(self, instance: str) -> None:
        """Take it out in O(1): the last one moves into its place."""
        position = self._position.pop(instance, None)
        if position is None:
            return
        last = self._endpoints.pop()
        if last.instance != instance:
            self._endpoints[position] = last
            self._position[last.instance] = position


async def _wait(condition: Awaitable[object], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await condition
    except TimeoutError:
        return False
    return True
