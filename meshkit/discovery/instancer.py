"""Follows the instances of one service in etcd."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from meshkit.background import end_task
from meshkit.backoff import Backoff, Outage, Streak
from meshkit.discovery.ignored import IgnoredRegistrations
from meshkit.discovery.registrations import address_of, checked_prefix
from meshkit.errors import EtcdError
from meshkit.etcd.api import Etcd, KeyValue

__all__ = ["InstanceChange", "Instancer", "Observer"]

log = structlog.stdlib.get_logger(__name__)

# Addresses in one log line.
SHOWN = 100


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """What changed: addresses (`host:port`) that came and that went."""

    added: frozenset[str]
    removed: frozenset[str]


Observer = Callable[[InstanceChange], None]


class Instancer:
    """Lists a prefix, then watches it from the next revision on, so that nothing between the two is missed.

    An async context manager; observers are called for every change, on the event loop, as soon as etcd reports it.
    A watch that is canceled, compacted, ended or broken means: list again. While etcd is away the last known
    instances stay in use and `stale` is true: an outage of the registry is not an outage of the service.

    Args:
        etcd: where the instances register.
        prefix: ends with "/", e.g. `/services/book/`; keys are `<prefix><host:port>`, values `<host:port>`.
            Entries with any other key or value are ignored, with a warning; of many, with their number.
        backoff: between failed tries. Default cap 1 s.
        relist: seconds after which everything is listed again although no watch failed: a bound on what a lost
            event can cost. Default 60.
        invalidate_after: seconds of staleness after which the set is emptied; None (default): never. Emptying it
            turns an outage of etcd into an outage of the service: choose it only where calling a wrong instance is
            worse than calling none.
        keep_last: seconds for which the last instances stay in use after etcd has stopped listing any. Default 3;
            0: none. Longer while etcd is away. An etcd that lost its data, or that was frozen for longer than the
            leases, lists nothing until the servers have registered again. All calls would fail during that time, so
            calling the last known instances can only help.
    """

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        *,
        backoff: Backoff | None = None,
        relist: float = 60.0,
        invalidate_after: float | None = None,
        keep_last: float = 3.0,
    ) -> None:
        self.prefix = checked_prefix(prefix)
        self._etcd = etcd
        self._backoff = backoff or Backoff()
        self._relist = relist
        self._invalidate_after = invalidate_after
        self._keep_last = keep_last
        self._by_key: dict[str, str] = {}
        self._addresses: Counter[str] = Counter()
        self._observers: list[Observer] = []
        self._task: asyncio.Task[None] | None = None
        # Gone from etcd, and still in use: see keep_last.
        self._kept: frozenset[str] = frozenset()
        self._letting_go: asyncio.TimerHandle | None = None
        self._invalidation: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._outage = Outage()
        self._ignored = IgnoredRegistrations(self.prefix)
        # Times that everything was listed, so far: one more than the watches that ended.
        self.listings = 0
        self.stale = True
        self.reason: str | None = "not listed yet"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow(), name=f"instancer {self.prefix}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await end_task(self._task)
            self._task = None
        self._cancel_invalidation()
        self._forget_kept()

    @property
    def instances(self) -> frozenset[str]:
        """All known addresses, including those that stay in use because etcd no longer lists any."""
        return frozenset(self._addresses) | self._kept

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell `observer` of all known instances and of each later change; returns the function that stops it."""
        self._observers.append(observer)
        if self.instances:
            observer(InstanceChange(self.instances, frozenset()))
        return lambda: self._observers.remove(observer)

    async def wait_instances(self) -> frozenset[str]:
        """Wait until at least one instance is known."""
        while not self.instances:
            self._changed.clear()
            await self._changed.wait()
        return self.instances

    async def _follow(self) -> None:
        streak = Streak(self._backoff)
        while True:
            try:
                listing = await self._etcd.list(self.prefix)
                self.listings += 1
                self._replace({item.key: item for item in listing.items})
                self._mark_fresh()
                streak.holds()
                await self._watch(listing.revision + 1)
            except EtcdError as error:
                self._mark_stale(str(error))
                await asyncio.sleep(streak.delay())
            except Exception as error:
                # No error may end discovery.
                if self._mark_stale(repr(error)):
                    log.exception("following instances failed unexpectedly", prefix=self.prefix)
                await asyncio.sleep(streak.delay())

    async def _watch(self, revision: int) -> None:
        """Apply changes as they come; return when it is time to list again."""
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(self._relist),
                aclosing(self._etcd.watch(self.prefix, revision)) as batches,
            ):
                async for batch in batches:
                    self._apply({e.item.key: None if e.deleted else e.item for e in batch.events})

    def _replace(self, items: dict[str, KeyValue]) -> None:
        gone = self._by_key.keys() - items.keys()
        self._apply({**dict.fromkeys(gone), **items})

    def _apply(self, changes: dict[str, KeyValue | None]) -> None:
        """Apply what is new for each key; None: the key is gone. The cost is that of the changes, not of the set."""
        before: dict[str, bool] = {}
        for key, item in changes.items():
            old = self._by_key.pop(key, None)
            new = self._address_of(item) if item is not None else None
            for address, count in ((old, -1), (new, +1)):
                if address is not None:
                    before.setdefault(address, address in self._addresses)
                    self._addresses[address] += count
                    if not self._addresses[address]:
                        del self._addresses[address]
            if new is not None:
                self._by_key[key] = new
        self._ignored.settle()
        added = frozenset(a for a, known in before.items() if not known and a in self._addresses)
        removed = frozenset(a for a, known in before.items() if known and a not in self._addresses)
        if added or removed:
            self._settle(added, removed)

    def _settle(self, added: frozenset[str], removed: frozenset[str]) -> None:
        """Announce a change of what etcd lists. When it lists nothing, the last instances stay for a moment."""
        if not self._addresses and self._keep_last:
            self._kept = removed
            self._let_go_later()
            log.warning("no instance listed any more, keeping the last", prefix=self.prefix, seconds=self._keep_last)
            return
        kept = self._forget_kept()
        change = InstanceChange(added - kept, removed | (kept - self._addresses.keys()))
        if change.added or change.removed:
            self._announce(change)

    def _let_go_later(self) -> None:
        self._letting_go = asyncio.get_running_loop().call_later(self._keep_last, self._let_go)

    def _let_go(self) -> None:
        self._letting_go = None
        # An etcd that shuts down ends the leases that can no longer be renewed: wait until it is back.
        if not self.stale:
            self._drop_kept()

    def _drop_kept(self) -> None:
        if kept := self._forget_kept():
            self._announce(InstanceChange(frozenset(), kept))

    def _forget_kept(self) -> frozenset[str]:
        if self._letting_go is not None:
            self._letting_go.cancel()
            self._letting_go = None
        kept, self._kept = self._kept, frozenset()
        return kept

    def _address_of(self, item: KeyValue) -> str | None:
        try:
            return address_of(self.prefix, item)
        except ValueError as error:
            self._ignored.add(item.key, str(error))
            return None

    def _announce(self, change: InstanceChange) -> None:
        self._changed.set()
        log.info(
            "instances changed",
            prefix=self.prefix,
            added=_shown(change.added),
            removed=_shown(change.removed),
            total=len(self.instances),
        )
        for observer in tuple(self._observers):
            try:
                observer(change)
            except Exception:
                # Each change is announced once: the other observers would miss it for good.
                log.exception("an observer of instances failed", prefix=self.prefix)

    def _mark_fresh(self) -> None:
        if (away := self._outage.over()) is not None:
            total = len(self.instances)
            log.info("instances are up to date again", prefix=self.prefix, total=total, after=round(away, 1))
        self.stale, self.reason = False, None
        self._cancel_invalidation()
        if self._kept and self._letting_go is None:
            self._let_go_later()

    def _mark_stale(self, reason: str) -> bool:
        """Note that etcd is away; return whether the log says so this time."""
        if failures := self._outage.failed(reason):
            total = len(self.instances)
            log.warning("instances may be stale", prefix=self.prefix, total=total, reason=reason, failures=failures)
        self.stale, self.reason = True, reason
        if self._invalidate_after is not None and self._invalidation is None:
            loop = asyncio.get_running_loop()
            self._invalidation = loop.call_later(self._invalidate_after, self._invalidate)
        return bool(failures)

    def _invalidate(self) -> None:
        log.error("instances invalidated", prefix=self.prefix, after=self._invalidate_after, reason=self.reason)
        gone = self.instances
        self._by_key.clear()
        self._addresses.clear()
        self._forget_kept()
        if gone:
            self._announce(InstanceChange(frozenset(), gone))

    def _cancel_invalidation(self) -> None:
        if self._invalidation is not None:
            self._invalidation.cancel()
            self._invalidation = None


def _shown(addresses: frozenset[str]) -> str:
    """The addresses for the log, the first ones if there are many."""
    shown = ",".join(sorted(addresses)[:SHOWN])
    return shown if len(addresses) <= SHOWN else f"{shown} and {len(addresses) - SHOWN} more"
