"""Keeps one instance registered in etcd for as long as the program runs."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from contextlib import aclosing
from types import TracebackType
from typing import Self

import structlog

from meshkit.background import end_task, end_tasks
from meshkit.backoff import Backoff, Outage, Streak
from meshkit.discovery.registrations import key_of
from meshkit.errors import EtcdError, LeaseLostError
from meshkit.etcd.api import Etcd, KeyValue, Lease

__all__ = ["Registrar"]

log = structlog.stdlib.get_logger(__name__)

# Seconds that revoking the lease may take on leaving.
LEAVING = 2.5


class Registrar:
    """Puts an instance's key under a lease, keeps it there, and takes it away again.

    An async context manager: entering starts registering in the background (etcd may be down), leaving deregisters.
    A lost lease, a deleted key, an etcd that comes back with or without its data: registered again, with full-jitter
    backoff. A key that another server has put in the meantime belongs to that successor and is not touched until it is
    gone.

    Args:
        etcd: where to register.
        prefix: of the service's registrations, e.g. `/services/book/`; the key is `<prefix><address>`.
        address: `host:port` that clients reach the instance at.
        ttl: of the lease, in seconds: how long a killed instance stays visible. Default 10. Renewed at ttl / 3.
        backoff: between failed tries. Its default cap of 1 s limits how long the key is missing after etcd is back.
        recheck: seconds after which the key is read although no watch reported a change. Default 30.
    """

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        address: str,
        *,
        ttl: int = 10,
        backoff: Backoff | None = None,
        recheck: float = 30.0,
    ) -> None:
        if ttl < 1:
            raise ValueError(f"expected a lease TTL of at least 1 s, got {ttl}")
        self.key = key_of(prefix, address)
        self.address = address
        self._etcd = etcd
        self._ttl = ttl
        self._backoff = backoff or Backoff()
        self._recheck = recheck
        # Chosen here rather than by etcd: a grant or a put whose answer was lost is then still known to be ours.
        self._lease_id = 0
        self._lease: Lease | None = None
        self._put_sent = False
        # Of the lease, so far.
        self.renewals = 0
        self._registered = asyncio.Event()
        self._displaced = asyncio.Event()
        self._outage = Outage()
        self._ever_registered = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.deregister()

    def start(self) -> None:
        """Begin to register, in the background: etcd may be down. Entering does this."""
        self._task = asyncio.create_task(self._keep_registered(), name=f"registrar {self.key}")

    @property
    def registered(self) -> bool:
        """Whether the key is in etcd as far as is known."""
        return self._registered.is_set()

    async def wait_registered(self) -> None:
        """Wait until the key is in etcd."""
        await self._registered.wait()

    @property
    def displaced(self) -> bool:
        """Whether the key belongs to another server, as far as etcd has said: clients call that one."""
        return self._displaced.is_set()

    async def wait_displaced(self) -> None:
        """Wait until the key belongs to another server."""
        await self._displaced.wait()

    async def deregister(self) -> bool:
        """Stop keeping the key and revoke its lease, which deletes the key unless a successor owns it.

        Takes a few seconds at most; where etcd cannot be reached the lease ends by itself after its TTL.
        Calling it again does nothing.

        Returns:
            Whether clients may have seen the key: a put under way when this was called may have reached etcd.
        """
        if self._task is None:
            return False
        task, self._task = self._task, None
        await end_task(task)
        self._registered.clear()
        if await self._leave():
            log.info("deregistered", key=self.key)
        return self._put_sent

    async def _keep_registered(self) -> None:
        streak = Streak(self._backoff)
        while True:
            try:
                await self._register()
                streak.holds()
                await self._hold()
            except LeaseLostError as error:
                # etcd has said so: no key of ours is under that lease any more, and the next try takes another one.
                self._registered.clear()
                delay = streak.delay()
                if failures := self._outage.failed("registration lost"):
                    reason = str(error)
                    log.warning("registration lost, registering again", key=self.key, reason=reason, failures=failures)
                await self._revoke()
            except EtcdError as error:
                # The request may have been done although its answer was lost: the next try uses the same lease.
                delay = streak.delay()
                if failures := self._outage.failed(str(error)):
                    log.warning("registration failed", key=self.key, reason=str(error), failures=failures)
            except Exception as error:
                delay = streak.delay()
                if failures := self._outage.failed(repr(error)):
                    log.exception("registration failed unexpectedly", key=self.key, failures=failures)
            await asyncio.sleep(delay)

    async def _register(self) -> None:
        if not self._lease_id:
            self._lease_id = secrets.randbits(62) + 1
        lease = self._lease = await self._etcd.grant(self._ttl, self._lease_id)
        if self._ever_registered:
            # The key was lost before: a server that has put it since is our successor.
            while (owner := await self._etcd.put_if_absent(self.key, self.address, lease.id)) is not None:
                if owner.lease == lease.id:
                    # Ours: an earlier try has put it, and its answer got lost.
                    break
                await self._step_back(owner)
        else:
            # The first time, a key that is there was left by an earlier program at this address.
            self._put_sent = True
            await self._etcd.put(self.key, self.address, lease.id)
        self._displaced.clear()
        self._registered.set()
        # An etcd that takes every registration and loses it at once is no flood of lines either.
        if self._outage.over() is not None or not self._ever_registered:
            log.info("registered", key=self.key, lease=f"{lease.id:x}", ttl=lease.ttl)
        self._ever_registered = True

    async def _step_back(self, owner: KeyValue) -> None:
        assert self._lease is not None
        self._displaced.set()
        if self._outage.failed(f"lease {owner.lease:x}"):
            log.warning("key belongs to a successor, waiting", key=self.key, lease=f"{owner.lease:x}")
        await asyncio.sleep(self._ttl / 3)
        await self._etcd.keep_alive(self._lease.id)

    async def _hold(self) -> None:
        """Never return; raise LeaseLostError once the registration is gone."""
        assert self._lease is not None
        lease = self._lease
        renewal = asyncio.create_task(self._renew(lease), name=f"renewal {self.key}")
        guard = asyncio.create_task(self._guard(lease), name=f"guard {self.key}")
        try:
            done, _ = await asyncio.wait((renewal, guard), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end_tasks((renewal, guard))

    async def _renew(self, lease: Lease) -> None:
        streak = Streak(self._backoff)
        while True:
            try:
                await self._etcd.keep_alive(lease.id)
                self.renewals += 1
                streak.failures = 0
                if (away := self._outage.over()) is not None:
                    log.info("lease renewed again", key=self.key, after=round(away, 1))
                # A third of the TTL that was asked for, not of what etcd granted.
                await asyncio.sleep(self._ttl / 3)
            except LeaseLostError:
                raise
            except EtcdError as error:
                # The lease may outlive the outage (etcd gives every lease its full TTL after a restart): go on with it.
                delay = streak.delay()
                if failures := self._outage.failed(str(error)):
                    log.warning("lease not renewed, trying on", key=self.key, reason=str(error), failures=failures)
                await asyncio.sleep(delay)

    async def _guard(self, lease: Lease) -> None:
        streak = Streak(self._backoff)
        while True:
            try:
                await self._watch_key(lease, streak)
            except LeaseLostError:
                raise
            except EtcdError:
                await asyncio.sleep(streak.delay())

    async def _watch_key(self, lease: Lease, streak: Streak) -> None:
        """Read the key, then watch it; return when it is time to read it again."""
        listing = await self._etcd.list(self.key)
        streak.holds()
        self._check_owner(next((item for item in listing.items if item.key == self.key), None), lease)
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(self._recheck),
                aclosing(self._etcd.watch(self.key, listing.revision + 1)) as batches,
            ):
                async for batch in batches:
                    for event in batch.events:
                        if event.item.key == self.key:
                            self._check_owner(None if event.deleted else event.item, lease)

    def _check_owner(self, item: KeyValue | None, lease: Lease) -> None:
        if item is None:
            raise LeaseLostError("the key is gone")
        if item.lease != lease.id:
            raise LeaseLostError(f"the key was taken over under lease {item.lease:x}")

    async def _revoke(self) -> None:
        """Try once to revoke a lease that is no longer needed; otherwise it ends by itself."""
        lease_id, self._lease_id = self._lease_id, 0
        with contextlib.suppress(EtcdError):
            await self._etcd.revoke(lease_id)

    async def _leave(self) -> bool:
        """Revoke the lease; return whether nothing of ours is left in etcd."""
        if not self._lease_id:
            return True
        streak, reason = Streak(self._backoff), "no answer"
        try:
            async with asyncio.timeout(LEAVING):
                while True:
                    try:
                        await self._etcd.revoke(self._lease_id)
                    except EtcdError as error:
                        reason = str(error)
                        await asyncio.sleep(streak.delay())
                    else:
                        return True
        except TimeoutError:
            log.warning("lease not revoked, it ends by itself", key=self.key, ttl=self._ttl, reason=reason)
            return False
