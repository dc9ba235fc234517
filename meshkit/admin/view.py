"""What a program knows of its mesh, looked at again and again: its state, and what has changed since.

Nothing tells of changes here: all figures are kept anyway, so a call costs the same whether anybody looks or not. What
came and went between two looks is missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from meshkit.admin.last_calls import LastCalls
from meshkit.clock import unix_time
from meshkit.metrics import BOUNDS, ClientSources, MethodCalls, Sources, quantile

__all__ = ["MeshView", "readiness"]

State = dict[str, Any]
Mark = dict[str, Any]

# Seconds over which percentiles are told.
RECENT = 10.0
# Seconds for which an instance is told of after it has gone.
GONE = 30.0
HISTORY, MARKS = 300.0, 200
CALLABLE = {"ready", "probation"}
AWAY = {"leaving", "gone"}


def readiness(sources: Sources) -> tuple[bool, str]:
    """Whether a program can do its work, and why, or why not, in a line."""
    if sources.registration is not None and not sources.registration.registered:
        return False, "not registered"
    for client in sources.clients:
        known = client.endpoints.endpoints
        if not any(endpoint.state in CALLABLE for endpoint in known):
            return False, f"no instance of {client.metrics.target} is ready, {len(known)} known"
    if sources.registration is None and not sources.clients:
        return False, "starting"
    return True, "ready"


@dataclass(slots=True)
class _Counted:
    """Calls so far: all, the failed ones, those made again, and all by their seconds, as a Histogram counts them."""

    calls: int = 0
    failed: int = 0
    retries: int = 0
    seconds: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def add(self, methods: Iterator[MethodCalls]) -> _Counted:
        for method in methods:
            for code, histogram in method.by_code.items():
                count = histogram.count
                self.calls += count
                self.failed += 0 if code is grpc.StatusCode.OK else count
                self.seconds = [mine + its for mine, its in zip(self.seconds, histogram.counts, strict=True)]
            self.retries += sum(times * calls for times, calls in method.retries.items())
        return self


class _Recent:
    """What was counted at each telling of the last seconds."""

    def __init__(self) -> None:
        self._counted: deque[tuple[float, _Counted]] = deque()

    def told(self, now: float, counted: _Counted) -> State:
        """The calls since the last telling, and the percentiles of the last seconds."""
        before = self._counted[-1][1] if self._counted else _Counted()
        self._counted.append((now, counted))
        while len(self._counted) > 1 and self._counted[1][0] <= now - RECENT:
            self._counted.popleft()
        oldest = self._counted[0][1] if len(self._counted) > 1 else _Counted()
        recent = [max(0, at - was) for at, was in zip(counted.seconds, oldest.seconds, strict=True)]
        return {
            # Counts of an instance begin anew when it comes back.
            "calls": max(0, counted.calls - before.calls),
            "failed": max(0, counted.failed - before.failed),
            "retries": max(0, counted.retries - before.retries),
            "p50": quantile(recent, 0.5),
            "p99": quantile(recent, 0.99),
        }


@dataclass(slots=True)
class _Seen:
    """An instance at the last look."""

    service: str
    state: str
    since: float
    until: float | None = None
    in_flight: int = 0
    ejected: bool = False
    recent: _Recent = field(default_factory=_Recent)


class MeshView:
    """The state of a program's mesh, its history of five minutes, and the marks of what happened.

    Args:
        sources: what the program has.
        calls: its last calls, which tell what trace an ejection was seen in.
        clock: Unix seconds, monotonic. Default `unix_time`.
    """

    def __init__(self, sources: Sources, calls: LastCalls, *, clock: Callable[[], float] = unix_time) -> None:
        self.history: deque[State] = deque()
        self.marks: deque[Mark] = deque(maxlen=MARKS)
        self._sources = sources
        self._calls = calls
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._flags: dict[str, bool] = {}
        self._recent = _Recent()
        self._told_at = clock()

    def now(self) -> float:
        """Unix seconds."""
        return self._clock()

    def look(self) -> list[Mark]:
        """Look at the instances and at what is away; returns what has happened since the last look."""
        now = self._clock()
        marks = [*self._of_instances(now), *self._of_flags(now)]
        self.marks.extend(marks)
        return marks

    def mark(self, kind: str, text: str, instance: str | None = None) -> Mark:
        """Note that something was done."""
        mark = _mark(self._clock(), kind, text, instance)
        self.marks.append(mark)
        return mark

    def tell(self) -> State:
        """The state as of the last look, with what was counted since the last telling."""
        now = self._clock()
        span, self._told_at = now - self._told_at, now
        sources = self._sources
        counted = _Counted()
        for client in sources.clients:
            counted.add(iter(client.metrics.calls.values()))
        if not sources.clients and sources.server is not None:
            counted.add(iter(sources.server.calls.values()))
        breaker = next((client.breaker for client in sources.clients if client.breaker), None)
        budget = next((client.budget for client in sources.clients if client.budget), None)
        state: State = {
            "t": round(now, 3),
            "span": round(span, 3),
            **self._recent.told(now, counted),
            "budget": budget and {"tokens": round(budget.tokens, 1), "reserve": budget.reserve},
            "breaker": breaker
            and {"state": breaker.current_state, "until": now + breaker.sleep_left if breaker.sleep_left else None},
            "etcd": sources.etcd and {"away_since": sources.etcd.away_since},
            "spans": self._spans(),
            "limiter": sources.limiter and {"waiting": sources.limiter.waiting},
            "registered": sources.registration and sources.registration.registered,
            "instances": list(self._instances(now)),
        }
        self.history.append(_kept(state))
        while self.history[0]["t"] < now - HISTORY:
            self.history.popleft()
        return state

    def _spans(self) -> State | None:
        if not self._sources.spans:
            return None
        counts = [processor.counts for processor in self._sources.spans]
        return {
            "sent": sum(each.sent for each in counts),
            "dropped": sum(each.dropped for each in counts),
            "queued": sum(each.queued for each in counts),
            "away_since": self._collector_away(),
        }

    def _collector_away(self) -> float | None:
        return min((since for each in self._sources.spans if (since := each.away_since) is not None), default=None)

    def _instances(self, now: float) -> Iterator[State]:
        methods = {
            address: of_instance
            for client in self._sources.clients
            for address, of_instance in client.metrics.instances.items()
        }
        for address, seen in sorted(self._seen.items()):
            counted = _Counted().add(iter(methods.get(address, {}).values()))
            told = seen.recent.told(now, counted)
            del told["retries"]
            yield {
                "address": address,
                "service": seen.service,
                "state": seen.state,
                "since": round(seen.since, 3),
                "until": seen.until and round(seen.until, 3),
                "in_flight": seen.in_flight,
                **told,
            }

    def _of_instances(self, now: float) -> Iterator[Mark]:
        found = {address: seen for client in self._sources.clients for address, seen in _found(client, now)}
        for address, seen in found.items():
            before = self._seen.get(address)
            if before is not None:
                seen.recent = before.recent
                if seen.state == before.state:
                    seen.since = before.since
            yield from self._changes(now, address, before, seen)
        for address, before in self._seen.items():
            if address not in found and (before.state != "gone" or now - before.since < GONE):
                gone = before if before.state == "gone" else _Seen(before.service, "gone", now, recent=before.recent)
                yield from self._changes(now, address, before, gone)
                found[address] = gone
        self._seen = found

    def _changes(self, now: float, address: str, before: _Seen | None, seen: _Seen) -> Iterator[Mark]:
        is_here, was_here = seen.state not in AWAY, before is not None and before.state not in AWAY
        if is_here and not was_here:
            yield _mark(now, "came", f"{address} came", address)
        elif was_here and not is_here:
            yield _mark(now, "went", f"{address} left the registry", address)
        was_ejected = before is not None and before.ejected
        if seen.ejected and not was_ejected:
            yield _mark(now, "ejected", f"{address} was ejected", address, self._calls.failed_at(address))
        elif was_ejected and is_here and not seen.ejected:
            yield _mark(now, "back", f"{address} is back", address)

    def _of_flags(self, now: float) -> Iterator[Mark]:
        """What is on or off for the program as a whole."""
        sources = self._sources
        for client in sources.clients:
            if client.breaker is not None:
                name = client.breaker.name
                texts = (f"the breaker {name} has opened", f"the breaker {name} has closed")
                yield from self._turned(
                    now, client.breaker.current_state != "closed", ("breaker-open", "breaker-closed"), texts
                )
        if sources.etcd is not None:
            texts = ("etcd does not answer", "etcd answers again")
            yield from self._turned(now, sources.etcd.away_since is not None, ("etcd-away", "etcd-back"), texts)
        texts = ("the collector takes no spans", "the collector takes spans again")
        yield from self._turned(now, self._collector_away() is not None, ("zipkin-away", "zipkin-back"), texts)

    def _turned(self, now: float, on: bool, kinds: Sequence[str], texts: Sequence[str]) -> Iterator[Mark]:
        if on != self._flags.get(texts[0], False):
            self._flags[texts[0]] = on
            yield _mark(now, kinds[not on], texts[not on])


def _found(client: ClientSources, now: float) -> Iterator[tuple[str, _Seen]]:
    service = client.metrics.target
    for leaving in client.endpoints.leaving:
        yield leaving.instance, _Seen(service, "leaving", now, in_flight=leaving.in_flight)
    # Those whose endpoints are still to be made.
    for address in client.endpoints.known:
        yield address, _Seen(service, "connecting", now)
    for endpoint in client.endpoints.endpoints:
        until = now + endpoint.ejected_for if endpoint.ejected_for else None
        state, ejected = endpoint.state, endpoint.ejected
        yield endpoint.instance, _Seen(service, state, now, until, endpoint.in_flight, ejected)


def _kept(state: State) -> State:
    """What is kept of a state for those that come later: the figures that a chart needs."""
    counts = [{name: each[name] for name in ("address", "calls", "failed")} for each in state["instances"]]
    return {name: state[name] for name in ("t", "span", "calls", "failed", "retries", "p50", "p99")} | {
        "instances": counts
    }


def _mark(now: float, kind: str, text: str, instance: str | None = None, trace: str | None = None) -> Mark:
    return {"t": round(now, 3), "kind": kind, "instance": instance, "text": text, "trace": trace}
