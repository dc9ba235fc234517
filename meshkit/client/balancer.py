"""Balancers: which instance takes the next attempt."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Generic, Protocol

from meshkit.client.instance import InstanceEndpoint
from meshkit.endpoint import Request, Response
from meshkit.errors import NoEndpointsError

__all__ = ["Balancer", "EndpointSource", "Random", "RoundRobin", "none_left"]


class EndpointSource(Protocol[Request, Response]):
    """Where endpoints come from: an Endpointer, or a fixed list in a test."""

    @property
    def endpoints(self) -> list[InstanceEndpoint[Request, Response]]:
        """The endpoints ready for use."""


class Balancer(Protocol[Request, Response]):
    """Picks an endpoint for each attempt."""

    def pick(self, exclude: Collection[str] = ()) -> InstanceEndpoint[Request, Response]:
        """The endpoint for the next attempt, never one of the instances to `exclude`.

        One that is `ready` if there is one, else any: when every instance seems sick, a call that may fail is better
        than no call.

        Raises:
            NoEndpointsError: there is none, or none that is not excluded.
        """


class RoundRobin(Generic[Request, Response]):
    """Each endpoint in turn: n picks over k unchanging endpoints give each n/k, give or take one.

    A pick is O(1), however many endpoints there are; each one that is excluded or not ready costs one more step.
    """

    def __init__(self, source: EndpointSource[Request, Response]) -> None:
        self._source = source
        self._turn = 0

    def pick(self, exclude: Collection[str] = ()) -> InstanceEndpoint[Request, Response]:
        """Pick the next endpoint in turn that is ready and not excluded."""
        endpoints = self._source.endpoints
        fallback: tuple[int, InstanceEndpoint[Request, Response]] | None = None
        for _ in endpoints:
            endpoint = endpoints[self._turn % len(endpoints)]
            self._turn += 1
            if endpoint.instance not in exclude:
                if endpoint.ready:
                    return endpoint
                fallback = fallback or (self._turn, endpoint)
        if fallback is None:
            raise none_left(exclude)
        # They take turns as well.
        self._turn, endpoint = fallback
        return endpoint


class Random(Generic[Request, Response]):
    """Any endpoint, at random: many clients that start together do not all call the same one.

    Args:
        source: where the endpoints come from.
        rng: the source of randomness. Default: one of its own, seeded by the system.
    """

    def __init__(self, source: EndpointSource[Request, Response], rng: random.Random | None = None) -> None:
        self._source = source
        self._rng = rng or random.Random()

    def pick(self, exclude: Collection[str] = ()) -> InstanceEndpoint[Request, Response]:
        """Pick an endpoint that is ready and not excluded, at random."""
        endpoints = self._source.endpoints
        if exclude:
            endpoints = [endpoint for endpoint in endpoints if endpoint.instance not in exclude]
        if not endpoints:
            raise none_left(exclude)
        choice = self._rng.choice(endpoints)
        if not choice.ready and (ready := [endpoint for endpoint in endpoints if endpoint.ready]):
            choice = self._rng.choice(ready)
        return choice


def none_left(exclude: Collection[str]) -> NoEndpointsError:
    """Make the error of a balancer that has nothing to pick; for other balancers, too."""
    if exclude:
        return NoEndpointsError("no instance is left besides those already tried")
    return NoEndpointsError("no instance of the service is known")
