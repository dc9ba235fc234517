"""Balancers that look at load: fewest calls in flight, and those times latency.

Sources: gRPC's least_request_lb_policy (proposal A48: two choices by default), Finagle's `Balancers.p2cPeakEwma`, and
Linkerd's load biaser, which makes a refusal count as seconds. Of few instances `LeastRequest` looks at all, as two
choices would often miss the best one (envoyproxy/envoy#4481); `PeakEwma` does not: whichever is the quickest by a hair
would get all calls of a client that makes one at a time.
"""

from __future__ import annotations

import math
import random
import time
from abc import abstractmethod
from collections.abc import Callable, Collection
from typing import Generic

import grpc

from meshkit.client.balancer import EndpointSource, none_left
from meshkit.client.instance import InstanceEndpoint
from meshkit.endpoint import Request, Response
from meshkit.errors import is_instance_failure, status_of

__all__ = ["LeastRequest", "PeakEwma"]

CHOICES = 2
# Draws for each choice among many of which some are tried, or not ready; then all are looked at.
DRAWS = 4


class _Least(Generic[Request, Response]):
    """Picks the endpoint with the least load; of equal ones any."""

    # Up to so many endpoints all are looked at; of more, two that are drawn.
    look_at_all = 0

    def __init__(self, source: EndpointSource[Request, Response], rng: random.Random | None = None) -> None:
        self._source = source
        self._rng = rng or random.Random()

    @abstractmethod
    def load_of(self, endpoint: InstanceEndpoint[Request, Response]) -> float:
        """What a call to an endpoint has to expect; the least is picked."""

    def pick(self, exclude: Collection[str] = ()) -> InstanceEndpoint[Request, Response]:
        """See `Balancer.pick`."""
        endpoints = self._source.endpoints
        if len(endpoints) > self.look_at_all and (drawn := self._draw(endpoints, exclude)):
            return min(drawn, key=self.load_of)
        left = [endpoint for endpoint in endpoints if endpoint.instance not in exclude]
        if not left:
            raise none_left(exclude)
        candidates = [endpoint for endpoint in left if endpoint.ready] or left
        # From any of them on, as `min` takes the first of equal ones.
        start = int(self._rng.random() * len(candidates))
        return min(candidates[start:] + candidates[:start], key=self.load_of)

    def _draw(
        self, endpoints: list[InstanceEndpoint[Request, Response]], exclude: Collection[str]
    ) -> list[InstanceEndpoint[Request, Response]]:
        """Two of many that are ready, or fewer where they are rare."""
        drawn: list[InstanceEndpoint[Request, Response]] = []
        for _ in range(CHOICES * DRAWS):
            endpoint = endpoints[int(self._rng.random() * len(endpoints))]
            if endpoint not in drawn and endpoint.instance not in exclude and endpoint.ready:
                drawn.append(endpoint)
                if len(drawn) == CHOICES:
                    break
        return drawn


class LeastRequest(_Least[Request, Response]):
    """The endpoint with the fewest of this client's calls in flight: of all up to 10, of two drawn ones beyond.

    A slow instance gets fewer calls by itself, as they pile up there. One that fails at once does not: that is what
    ejection is for.

    Args:
        source: where the endpoints come from.
        rng: the source of randomness. Default: one of its own, seeded by the system.
    """

    look_at_all = 10

    def load_of(self, endpoint: InstanceEndpoint[Request, Response]) -> float:
        """Calls in flight."""
        return endpoint.in_flight


class PeakEwma(_Least[Request, Response]):
    """Of two drawn endpoints the one with the less expected wait: its latency, times its calls in flight and the next.

    Latency is a mean that weighs recent calls more, and follows a slower one at once. An answer that speaks against the
    instance, or a refusal (RESOURCE_EXHAUSTED), counts as `penalty`, so that an instance that fails fast is not
    favoured. For calls with one answer: a stream's latency is its whole life.

    Args:
        source: where the endpoints come from.
        rng: see `LeastRequest`.
        decay: seconds after which a latency weighs a third. Default 10.
        penalty: seconds that a failure counts as, at least. Default 5, as Linkerd's.
        clock: seconds, monotonic. Default time.monotonic.
    """

    def __init__(
        self,
        source: EndpointSource[Request, Response],
        rng: random.Random | None = None,
        *,
        decay: float = 10.0,
        penalty: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(source, rng)
        self._decay = decay
        self._penalty = penalty
        self._clock = clock

    def load_of(self, endpoint: InstanceEndpoint[Request, Response]) -> float:
        """Seconds to wait; of an endpoint without an answer yet, the penalty for each call in flight."""
        peak = endpoint.watch
        if not isinstance(peak, _Peak):
            peak = endpoint.watch = _Peak(self._decay, self._penalty, self._clock)
        latency = peak.now()
        if latency is None:
            return self._penalty * endpoint.in_flight
        return latency * (endpoint.in_flight + 1)


class _Peak:
    """The latency of one instance."""

    def __init__(self, decay: float, penalty: float, clock: Callable[[], float]) -> None:
        self._decay = decay
        self._penalty = penalty
        self._clock = clock
        self._latency: float | None = None
        self._at = 0.0

    def __call__(self, seconds: float, error: BaseException | None) -> None:
        """Note a call's end."""
        if isinstance(error, Exception) and (
            is_instance_failure(error) or status_of(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
        ):
            seconds = max(seconds, self._penalty)
        now = self._clock()
        if self._latency is None or seconds > self._latency:
            self._latency = seconds
        else:
            weight = math.exp((self._at - now) / self._decay)
            self._latency = self._latency * weight + seconds * (1 - weight)
        self._at = now

    def now(self) -> float | None:
        """The latency to expect; it fades while nothing is heard, so that a slow instance is tried again."""
        if self._latency is None:
            return None
        return self._latency * math.exp((self._at - self._clock()) / self._decay)
