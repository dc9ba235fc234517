"""Turns the instances of a service into endpoints that can be called."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import grpc
import pybreaker
import structlog
from opentelemetry import trace

from meshkit.backoff import Backoff
from meshkit.breaker import HystrixBreaker, instance_breaker
from meshkit.endpoint import Endpoint
from meshkit.errors import CutOffError, status_of
from meshkit.instancer import InstanceChange, Observer

__all__ = ["Endpointer", "Factory", "InstanceEndpoint", "InstanceSource"]

log = structlog.stdlib.get_logger(__name__)

Request = TypeVar("Request")
Response = TypeVar("Response")

Factory = Callable[[str], AbstractAsyncContextManager[Endpoint[Request, Response]]]


class InstanceSource(Protocol):
    """Where instances come from: an Instancer, or anything else that tells of changes."""

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """See `Instancer.subscribe`."""


class InstanceEndpoint(Generic[Request, Response]):
    """The endpoint of one instance (`host:port`): call it like any endpoint; it knows its calls in flight.

    Parameters:
        instance: `host:port`.
        endpoint: calls the instance. Where it has a method `connected`, as those of `channel_factory` have, an
            UNAVAILABLE makes the instance not ready until that returns true: no call is spent on finding out.
        breaker: judges the instance by its answers. It refuses nothing here: it makes the instance not ready.
        connect_first: whether it is not ready from the start, until `connected` returns true. Default no.
    """

    def __init__(
        self,
        instance: str,
        endpoint: Endpoint[Request, Response],
        *,
        breaker: HystrixBreaker | None = None,
        connect_first: bool = False,
    ) -> None:
        self.instance = instance
        self.in_flight = 0
        self._endpoint = endpoint
        self._breaker = breaker
        self._connected: Callable[[], bool] | None = getattr(endpoint, "connected", None)
        self._suspect = connect_first and self._connected is not None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def ready(self) -> bool:
        """Whether a call should go here rather than elsewhere."""
        if self._suspect:
            if self._connected is None or not self._connected():
                return False
            self._suspect = False
        return self._breaker is None or self._breaker.ready

    async def __call__(self, request: Request) -> Response:
        """Call the instance, ready or not.

        Raises:
            CutOffError: the call was cut off, and not by its caller.
        """
        self.in_flight += 1
        self._idle.clear()
        try:
            if self._breaker is None or not self._breaker.ready:
                return await self._endpoint(request)
            return await self._breaker.call_async(self._endpoint, request)
        except asyncio.CancelledError as error:
            # grpc.aio ends the calls of a channel that is closed as if their callers had cancelled them.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise CutOffError("cut off: the channel was closed before the answer came") from error
        except Exception as error:
            if self._connected is not None and status_of(error) is grpc.StatusCode.UNAVAILABLE:
                self._suspect = True
            raise
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    async def drained(self) -> None:
        """Wait until no call is in flight."""
        await self._idle.wait()

    def __repr__(self) -> str:
        return f"InstanceEndpoint({self.instance}, in_flight={self.in_flight})"


class Endpointer(Generic[Request, Response]):
    """Keeps one endpoint for each instance, across all changes of the set.

    An instance that joins others is ready once its connection stands, as with gRPC's own balancers: where it cannot be
    reached yet (a firewall may learn of it later than clients do) no call is spent on finding out.

    Parameters:
        source: an Instancer (entered, or entered later).
        factory: makes an instance's endpoint; an async context manager, left once the instance is gone and the
            calls in flight have ended. Typically opens a channel. Where it fails it is tried again, with backoff,
            until the instance is gone; a slow one delays no other instance.
        backoff: between tries of one factory. Default cap 1 s.
        drain: seconds that calls in flight to an instance that is gone may still take; then they fail with CutOffError,
            which a Retry repeats elsewhere. Default 30.
        breaker: makes the breaker that judges an instance, from its `host:port` and the listeners to add. Default
            `instance_breaker`; None: instances are not judged. Ejections and returns are logged, and ejections noted
            in the trace of the call that led to them.
    """

    def __init__(
        self,
        source: InstanceSource,
        factory: Factory[Request, Response],
        *,
        backoff: Backoff | None = None,
        drain: float = 30.0,
        breaker: Callable[[str, list[pybreaker.CircuitBreakerListener]], HystrixBreaker] | None = instance_breaker,
    ) -> None:
        self._source = source
        self._factory = factory
        self._breaker = breaker
        self._backoff = backoff or Backoff()
        self._drain = drain
        self._endpoints: list[InstanceEndpoint[Request, Response]] = []
        self._position: dict[str, int] = {}
        self._gone: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._offered = asyncio.Event()
        self._unsubscribe: Callable[[], None] | None = None

    @property
    def endpoints(self) -> list[InstanceEndpoint[Request, Response]]:
        """The endpoints ready for use, in no particular order. The live list: look, don't touch."""
        return self._endpoints

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
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def renew(self) -> None:
        """Make every endpoint anew, e.g. because certificates have changed.

        Each stays in use until its successor is made, and is left once the calls in flight have ended.
        """
        for instance in tuple(self._gone):
            self._start(instance)

    def _update(self, change: InstanceChange) -> None:
        for instance in change.removed:
            self._gone.pop(instance).set()
            self._withdraw(instance)
        # The first ones are called at once, all alike: otherwise whichever connects first would get the first calls.
        joining = bool(self._endpoints)
        for instance in change.added:
            self._start(instance, connect_first=joining)

    def _start(self, instance: str, *, connect_first: bool = False) -> None:
        predecessor = self._gone.get(instance)
        gone = self._gone[instance] = asyncio.Event()
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
                            instance, endpoint, breaker=self._new_breaker(instance), connect_first=connect_first
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

    async def _let_finish(self, endpoint: InstanceEndpoint[Request, Response]) -> None:
        if not await _wait(endpoint.drained(), self._drain):
            log.warning("calls cut off", instance=endpoint.instance, in_flight=endpoint.in_flight)

    def _new_breaker(self, instance: str) -> HystrixBreaker | None:
        return self._breaker(instance, [_Announcer(instance)]) if self._breaker is not None else None

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


class _Announcer(pybreaker.CircuitBreakerListener):
    """Says when an instance is ejected and when it is back; the failed probes in between say nothing."""

    def __init__(self, instance: str) -> None:
        self._instance = instance

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:  # noqa: ARG002 - pybreaker's interface
        if old_state is None:
            return
        if old_state.name == pybreaker.STATE_CLOSED:
            log.warning("instance ejected", instance=self._instance)
            trace.get_current_span().add_event(f"instance ejected: {self._instance}")
        elif new_state.name == pybreaker.STATE_CLOSED:
            log.info("instance back", instance=self._instance)


async def _wait(condition: Awaitable[object], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await condition
    except TimeoutError:
        return False
    return True
