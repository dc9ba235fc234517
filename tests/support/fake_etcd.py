"""An etcd of the test's own: what it stores, whether it answers, when its watches end."""

import asyncio
from collections.abc import AsyncGenerator

from meshkit.errors import EtcdError, LeaseLostError, WatchCanceledError
from meshkit.etcd import Event, KeyValue, Lease, Listing, WatchBatch


class FakeEtcd:
    def __init__(self) -> None:
        self.down = False
        self.keys: dict[str, KeyValue] = {}
        self.leases: set[int] = set()
        self.granted = self.renewals = self.listings = 0
        self.revision = 1
        # Requests that are done, and whose answer never comes.
        self.lost_answers: list[str] = []
        self.watches_refused = False
        self.watched = 0
        self._watches: set[asyncio.Queue[WatchBatch | EtcdError]] = set()

    async def grant(self, ttl: int, lease_id: int = 0) -> Lease:
        self._answer()
        self.granted += 1
        self.leases.add(lease_id)
        self._lose_answer("grant")
        return Lease(lease_id, ttl)

    async def keep_alive(self, lease_id: int) -> int:
        self._answer()
        self.renewals += 1
        if lease_id not in self.leases:
            raise LeaseLostError(f"lease {lease_id:x} is gone")
        return 10

    async def revoke(self, lease_id: int) -> None:
        self._answer()
        self.leases.discard(lease_id)
        for key in [key for key, item in self.keys.items() if item.lease == lease_id]:
            self.delete(key)

    async def put(self, key: str, value: str, lease_id: int = 0) -> None:
        self._answer()
        self.set(key, value, lease_id)
        self._lose_answer("put")

    async def put_if_absent(self, key: str, value: str, lease_id: int = 0) -> KeyValue | None:
        self._answer()
        if key not in self.keys:
            self.set(key, value, lease_id)
            self._lose_answer("put_if_absent")
            return None
        return self.keys[key]

    async def list(self, prefix: str) -> Listing:
        self._answer()
        self.listings += 1
        return Listing(tuple(item for key, item in self.keys.items() if key.startswith(prefix)), self.revision)

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch]:
        self._answer()
        self.watched += 1
        if self.watches_refused:
            raise WatchCanceledError("permission denied")
        assert start_revision == self.revision + 1, "something between the listing and the watch would be missed"
        queue: asyncio.Queue[WatchBatch | EtcdError] = asyncio.Queue()
        self._watches.add(queue)
        try:
            while True:
                batch = await queue.get()
                if isinstance(batch, EtcdError):
                    raise batch
                events = tuple(event for event in batch.events if event.item.key.startswith(prefix))
                if events:
                    yield WatchBatch(events, batch.revision)
        finally:
            self._watches.discard(queue)

    def set(self, key: str, value: str, lease_id: int = 0) -> None:
        self.keys[key] = KeyValue(key, value, lease_id)
        self._tell(Event(self.keys[key]))

    def delete(self, key: str) -> None:
        del self.keys[key]
        self._tell(Event(KeyValue(key, ""), deleted=True))

    def end_watches(self, error: EtcdError) -> None:
        for queue in self._watches:
            queue.put_nowait(error)

    def go_down(self) -> None:
        self.down = True
        self.end_watches(EtcdError("connection lost"))

    def _tell(self, event: Event) -> None:
        self.revision += 1
        for queue in self._watches:
            queue.put_nowait(WatchBatch((event,), self.revision))

    def _lose_answer(self, request: str) -> None:
        if request in self.lost_answers:
            self.lost_answers.remove(request)
            raise EtcdError("deadline exceeded")

    def _answer(self) -> None:
        if self.down:
            raise EtcdError("connection refused")
