"""What is counted of calls, in the event loop, in plain numbers: nothing is looked up by a label at a call."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

import grpc
from opentelemetry.trace import Span

from meshkit import deadline
from meshkit.endpoint import Endpoint, Request, Response
from meshkit.errors import status_of
from meshkit.metrics.histogram import Histogram

__all__ = ["ClientMetrics", "Connections", "MethodCalls", "ServerMetrics"]

_OK = grpc.StatusCode.OK
# Methods that have a name of their own: a generic handler answers any that a client thinks of. gRPC's own metrics call
# the others so, too (proposal A66).
NAMED_METHODS = 256
OTHER = "other"


class MethodCalls:
    """The calls of one method, or its attempts at one instance; a middleware that counts the calls of an endpoint.

    Args:
        method: full name without the first slash, e.g. `BookService/GetBookInfo`.
    """

    __slots__ = ("_ok", "_others", "method", "retries", "started")

    def __init__(self, method: str) -> None:
        self.method = method
        self.started = 0
        # Calls by the number of their retries, of those that had some.
        self.retries: Counter[int] = Counter()
        self._ok = Histogram()
        self._others: dict[grpc.StatusCode, Histogram] = {}

    @property
    def by_code(self) -> Mapping[grpc.StatusCode, Histogram]:
        """Those that have ended, by their status."""
        ok = {_OK: self._ok} if any(self._ok.counts) else {}
        return ok | self._others

    def begin(self) -> float:
        """A call begins; returns what `end` wants to be told."""
        self.started += 1
        return perf_counter()

    def end(self, code: grpc.StatusCode, begun: float, span: Span | None = None) -> None:
        """A call has ended.

        Args:
            code: how.
            begun: what `begin` has returned.
            span: one of the call's trace; None: the current one.
        """
        now = perf_counter()
        # Other codes are looked up: their hash is computed in Python.
        (self._ok if code is _OK else self._of(code)).observe(now - begun, now, span)

    def _of(self, code: grpc.StatusCode) -> Histogram:
        found = self._others.get(code)
        if found is None:
            found = self._others[code] = Histogram()
        return found

    def retried(self, times: int) -> None:
        """A call has ended that was made again so many times; for a Retry."""
        self.retries[times] += 1

    def fold_into(self, total: MethodCalls) -> None:
        """Add what was counted here to a total, and count there from now on: calls may still be under way."""
        for code, histogram in self.by_code.items():
            (total._ok if code is _OK else total._of(code)).add(histogram)
        self._ok, self._others = total._ok, total._others

    def __call__(self, endpoint: Endpoint[Request, Response]) -> Endpoint[Request, Response]:
        """Count the calls of an endpoint (`meshkit.endpoint.Middleware`)."""

        async def counted(request: Request) -> Response:
            begun, code = self.begin(), grpc.StatusCode.CANCELLED
            try:
                answer = await endpoint(request)
                code = _OK
            except asyncio.CancelledError:
                if deadline.passed():
                    code = grpc.StatusCode.DEADLINE_EXCEEDED
                raise
            except Exception as error:
                code = status_of(error)
                raise
            else:
                return answer
            finally:
                self.end(code, begun)

        return counted


class Connections:
    """The connections to a service's instances, as far as gRPC for Python tells: it reports a channel's last state."""

    def __init__(self) -> None:
        self.succeeded = self.failed = self.lost = self.open = 0

    def changed(self, old: grpc.ChannelConnectivity, new: grpc.ChannelConnectivity) -> None:
        """A channel has another state than when it was last looked at."""
        state = grpc.ChannelConnectivity
        if old is state.READY:
            self.open -= 1
            self.lost += new is not state.SHUTDOWN
        if new is state.READY:
            self.open += 1
            self.succeeded += 1
        elif new is state.TRANSIENT_FAILURE and old is not state.READY:
            self.failed += 1


class ClientMetrics:
    """What a client counts of its calls to one service: give it where the calls are made.

    Args:
        target: what is called, e.g. `etcd:///services/book/`.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.connections = Connections()
        # Calls with all their attempts, by method.
        self.calls: dict[str, MethodCalls] = {}
        self._totals: dict[str, MethodCalls] = {}
        self._instances: dict[str, dict[str, MethodCalls]] = {}
        self._users: Counter[str] = Counter()

    def calls_of(self, method: str) -> MethodCalls:
        """What counts the calls of a method, with all their attempts; also for a name of one's own."""
        return _named(self.calls, method)

    def attempts_at(self, instance: str, method: str) -> MethodCalls:
        """What counts the attempts of a method's calls at an instance; see `following`."""
        total = _named(self._totals, method)
        methods = self._instances.setdefault(instance, {})
        found = methods.get(total.method)
        if found is None:
            found = methods[total.method] = MethodCalls(total.method)
        return found

    @contextmanager
    def following(self, instance: str) -> Iterator[None]:
        """Count an instance's attempts by itself while the body runs; after that they are in the totals only.

        So instances that come and go leave nothing behind. Of several such bodies for one instance the last one counts.
        """
        self._users[instance] += 1
        try:
            yield
        finally:
            self._users[instance] -= 1
            if not self._users[instance]:
                del self._users[instance]
                for attempts in self._instances.pop(instance, {}).values():
                    total = self._totals[attempts.method]
                    total.started += attempts.started
                    attempts.fold_into(total)

    @property
    def instances(self) -> Mapping[str, Mapping[str, MethodCalls]]:
        """The attempts at each instance that is followed, by method."""
        return self._instances

    def attempts(self) -> list[MethodCalls]:
        """The attempts of each method, at all instances that there were: a copy."""
        summed = {}
        for method, total in self._totals.items():
            summed[method] = of_all = MethodCalls(method)
            _add(total, of_all)
        for methods in self._instances.values():
            for method, attempts in methods.items():
                _add(attempts, summed[method])
        return list(summed.values())


class ServerMetrics:
    """What a server counts of the calls that it handles: give it to the server's TracingServerInterceptor."""

    def __init__(self) -> None:
        self.calls: dict[str, MethodCalls] = {}

    def calls_of(self, method: str) -> MethodCalls:
        """What counts the calls of a method."""
        return _named(self.calls, method)

    def unknown(self) -> None:
        """A call of a method that the server does not have: it is `other`, whatever its name."""
        other = self.calls_of(OTHER)
        other.end(grpc.StatusCode.UNIMPLEMENTED, other.begin())


def _named(calls: dict[str, MethodCalls], method: str) -> MethodCalls:
    name = method.lstrip("/")
    if name not in calls and len(calls) >= NAMED_METHODS:
        name = OTHER
    found = calls.get(name)
    if found is None:
        found = calls[name] = MethodCalls(name)
    return found


def _add(counted: MethodCalls, to: MethodCalls) -> None:
    to.started += counted.started
    for code, histogram in counted.by_code.items():
        (to._ok if code is _OK else to._of(code)).add(histogram)  # noqa: SLF001 - of the same class
