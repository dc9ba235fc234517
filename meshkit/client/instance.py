"""One instance of a service, as a client calls it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Generic, Protocol, runtime_checkable

import grpc

from meshkit import deadline
from meshkit.endpoint import Endpoint, Request, Response
from meshkit.errors import CutOffError, is_instance_failure, status_of
from meshkit.middleware.breaker import HystrixBreaker

__all__ = ["Connection", "Factory", "InstanceEndpoint"]

Factory = Callable[[str], AbstractAsyncContextManager[Endpoint[Request, Response]]]


@runtime_checkable
class Connection(Protocol):
    """What an endpoint may also be: something that knows whether it is connected to its instance."""

    def connected(self) -> bool:
        """Whether it is connected; if not, asking makes it try."""

    def reconnect(self) -> None:
        """Replace the connection although it seems to be up; calls under way on the old one may still end.

        For use after several calls in a row have timed out: something on the way may answer gRPC's pings although calls
        do not get through. Do not use it for a single slow call: it costs a connection.
        """


# Time-outs in a row after which the connection is replaced.
TIME_OUTS = 2
# Seconds that an instance which need not connect first counts as ready without a connection.
FIRST_CALLS = 1.0


class InstanceEndpoint(Generic[Request, Response]):
    """The endpoint of one instance (`host:port`): call it like any endpoint; it knows its calls in flight.

    Args:
        instance: `host:port`.
        endpoint: calls the instance. Where it is a `Connection` too, as those of `channel_factory` are, an instance
            whose connection was lost, or that was UNAVAILABLE, is not ready until it is connected: no call is spent
            on finding out. After two calls in a row that time out on one connection it is replaced.
        breaker: judges the instance by its answers. It never refuses a call here: while it is open, the
            instance is not ready.
        connect_first: whether it is not ready from the start, until it is connected. Default no: it has one second in
            which a first call may wait for the connection.
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
        # Told how each call has ended, with its seconds and its error: for a balancer that wants to know.
        self.watch: Callable[[float, BaseException | None], None] | None = None
        self._endpoint = endpoint
        self._breaker = breaker
        candidate: object = endpoint
        self._connection = candidate if isinstance(candidate, Connection) else None
        self._time_outs = 0
        self._connections = 0
        # Until then (the loop's time) it counts as ready without a connection.
        self._hoped_until = 0.0
        if self._connection is not None:
            if not connect_first:
                self._hoped_until = asyncio.get_running_loop().time() + FIRST_CALLS
            # Connects at once: a connection that is lost before its first call is noticed as any other.
            self._connection.connected()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def ready(self) -> bool:
        """Whether a call should go here rather than elsewhere."""
        if self._connection is not None:
            if self._connection.connected():
                # From now on a lost connection makes it not ready, even when no call is under way.
                self._hoped_until = 0.0
            elif asyncio.get_running_loop().time() >= self._hoped_until:
                return False
        return self._breaker is None or self._breaker.ready

    @property
    def state(self) -> str:
        """`ready`, `connecting`, `ejected`, or `probation`: back from an ejection, and not trusted yet.

        Of an instance that is both ejected and not connected, the first is told.
        """
        if self._breaker is not None:
            if self._breaker.on_probation:
                return "probation" if self.connected else "connecting"
            if self._breaker.current_state == "open":
                return "ejected"
        return "ready" if self.connected else "connecting"

    @property
    def ejected(self) -> bool:
        """Whether it is ejected, or probed after that: the others are preferred."""
        return self._breaker is not None and self._breaker.current_state != "closed"

    @property
    def ejected_for(self) -> float:
        """Seconds until an ejected instance is tried again; 0 where it is not ejected."""
        return 0.0 if self._breaker is None else self._breaker.sleep_left

    @property
    def connected(self) -> bool:
        """Whether it is connected; asking makes it try. True for an endpoint that cannot tell."""
        return self._connection is None or self._connection.connected()

    async def __call__(self, request: Request) -> Response:  # noqa: C901, PLR0912 - all the ways in which a call can end
        """Call the instance, ready or not.

        Raises:
            CutOffError: the call was cut off, and not by its caller.
        """
        self.in_flight += 1
        self._idle.clear()
        connection = self._connections
        watch = self.watch
        begun = asyncio.get_running_loop().time() if watch is not None else 0.0
        failure: BaseException | None = None
        try:
            if self._breaker is None or not self._breaker.ready:
                answer = await self._endpoint(request)
            else:
                answer = await self._breaker.call_async(self._endpoint, request)
        except asyncio.CancelledError as error:
            # grpc.aio ends the calls of a channel that is closed as if their callers had cancelled them.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                if deadline.passed():
                    self._timed_out(connection)
                    failure = TimeoutError()
                else:
                    # Its caller's wish: says nothing.
                    watch = None
                raise
            failure = CutOffError("cut off: the channel was closed before the answer came")
            raise failure from error
        except Exception as error:
            failure = error
            code = status_of(error)
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._timed_out(connection)
            else:
                self._time_outs = 0
            if code is grpc.StatusCode.UNAVAILABLE:
                self._hoped_until = 0.0
            raise
        else:
            self._time_outs = 0
            return answer
        finally:
            if watch is not None:
                watch(asyncio.get_running_loop().time() - begun, failure)
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()

    def outdone(self, error: Exception) -> None:
        """Note that another instance answered a request well for which this one had the error."""
        if self._breaker is not None and is_instance_failure(error) is None:
            self._breaker.note_failure()

    def _timed_out(self, connection: int) -> None:
        # Only calls on the current connection: of many that time out together, the first two have had it replaced.
        if self._connection is None or connection != self._connections:
            return
        self._time_outs += 1
        if self._time_outs >= TIME_OUTS:
            self._time_outs = 0
            self._connections += 1
            self._hoped_until = 0.0
            self._connection.reconnect()

    async def drained(self) -> None:
        """Wait until no call is in flight."""
        await self._idle.wait()

    def __repr__(self) -> str:
        return f"InstanceEndpoint({self.instance}, in_flight={self.in_flight})"
