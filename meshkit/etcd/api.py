"""The port: all that the mesh asks of etcd, in the mesh's own words.

Registrar and instancer know this protocol only, so that a test's fake is 20 lines and the package behind the real
one can be replaced. Semantics are those of etcd's v3 API (https://etcd.io/docs/v3.6/learning/api/).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Etcd", "Event", "KeyValue", "Lease", "Listing", "WatchBatch"]


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as etcd stores it. `lease` is 0 where there is none."""

    key: str
    value: str
    lease: int = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """A granted lease; `ttl` in seconds is what etcd granted, which may be more than was asked."""

    id: int
    ttl: int


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys under a prefix as of `revision`; a watch from `revision + 1` misses nothing."""

    items: tuple[KeyValue, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change: `item` was put, or (`deleted`) its key is gone and its value empty."""

    item: KeyValue
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Changes that reached the watch together, in order, up to `revision`."""

    events: tuple[Event, ...]
    revision: int


class Etcd(Protocol):
    """What the mesh asks of etcd. Every method raises EtcdError within seconds when etcd does not answer."""

    async def grant(self, ttl: int, lease_id: int = 0) -> Lease:
        """Grant a lease of at least `ttl` seconds.

        With a `lease_id` of the caller's choice (below 2**63) asking again is harmless: a lease that an earlier try
        was granted is renewed. 0: etcd chooses.
        """

    async def keep_alive(self, lease_id: int) -> int:
        """Renew a lease once and return its new TTL in seconds.

        Raises:
            LeaseLostError: there is no such lease any more.
        """

    async def revoke(self, lease_id: int) -> None:
        """Revoke a lease and delete its keys; a lease that is already gone is no error."""

    async def put(self, key: str, value: str, lease_id: int = 0) -> None:
        """Store a value; `lease_id` replaces a lease attached earlier."""

    async def put_if_absent(self, key: str, value: str, lease_id: int = 0) -> KeyValue | None:
        """Store a value unless the key exists, in one transaction; return what is stored there already, if anything."""

    async def list(self, prefix: str) -> Listing:
        """All keys that start with `prefix`, and the revision at which that was so."""

    def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch]:
        """Follow all changes under `prefix` from `start_revision` on.

        Never ends by itself: it yields until the caller closes it (use `contextlib.aclosing`).

        Raises:
            WatchCanceledError: etcd ended the watch; list again.
            EtcdError: the stream broke or ended; list again.
        """
