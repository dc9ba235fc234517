"""The port on the package etcd3: its generated API, on an asyncio channel.

etcd3's own client classes are left alone: its Watcher spins while etcd is down, never subscribes again, and is
silent on canceled watches; its Lease.refresh() says nothing of a lost lease (docs/decisions.md has the list).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from etcd3.etcdrpc import rpc_pb2 as rpc
from etcd3.etcdrpc import rpc_pb2_grpc as stubs

from meshkit.errors import EtcdError, LeaseLostError, WatchCanceledError
from meshkit.etcd.port import Event, KeyValue, Lease, Listing, WatchBatch

__all__ = ["EtcdClient"]

Answer = TypeVar("Answer")

CHANNEL_OPTIONS = (
    # A channel's state (its reconnect backoff above all) is its own, not shared with others to the same address.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 1000),
    # A frozen etcd keeps its connections open: only pings tell. etcd refuses pings more often than every 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)
MOVE_ON = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
# etcd then ends a watch on a member that has lost the quorum, instead of leaving it silent.
REQUIRE_LEADER = (("hasleader", "true"),)


class EtcdClient:
    """A connection to etcd; with several endpoints it moves on to the next when one fails.

    Parameters:
        endpoints: `host:port` of one or more members of one cluster.
        timeout: seconds that any single request may take. Default 2 s.

    Connects lazily: creating one never fails because etcd is away.
    """

    def __init__(self, endpoints: Sequence[str], *, timeout: float = 2.0) -> None:
        if not endpoints:
            raise ValueError("expected at least one etcd endpoint (host:port), got none")
        self._channels = [grpc.aio.insecure_channel(e, options=CHANNEL_OPTIONS) for e in endpoints]
        self._endpoints = tuple(endpoints)
        self._current = 0
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; requests and watches under way are cancelled."""
        for channel in self._channels:
            await channel.close()

    async def grant(self, ttl: int) -> Lease:
        """See `Etcd.grant`."""
        request = rpc.LeaseGrantRequest(TTL=ttl)
        answer = await self._call(lambda c: stubs.LeaseStub(c).LeaseGrant(request, timeout=self._timeout))
        return Lease(answer.ID, answer.TTL)

    async def keep_alive(self, lease_id: int) -> int:
        """See `Etcd.keep_alive`."""
        answer = await self._call(lambda c: self._keep_alive_once(c, lease_id))
        # etcd answers a renewal of a lease that it does not know with TTL 0, not with an error.
        if answer.TTL <= 0:
            raise LeaseLostError(f"lease {lease_id:x} is gone")
        return int(answer.TTL)

    async def _keep_alive_once(self, channel: grpc.aio.Channel, lease_id: int) -> Any:
        stream = stubs.LeaseStub(channel).LeaseKeepAlive(timeout=self._timeout)
        try:
            await stream.write(rpc.LeaseKeepAliveRequest(ID=lease_id))
            answer = await stream.read()
            if answer is grpc.aio.EOF:
                raise EtcdError(f"etcd ended the renewal of lease {lease_id:x} unanswered")
            return answer
        finally:
            stream.cancel()

    async def revoke(self, lease_id: int) -> None:
        """See `Etcd.revoke`."""
        request = rpc.LeaseRevokeRequest(ID=lease_id)
        try:
            await self._call(lambda c: stubs.LeaseStub(c).LeaseRevoke(request, timeout=self._timeout))
        except EtcdError as error:
            cause = error.__cause__
            if not (isinstance(cause, grpc.aio.AioRpcError) and cause.code() is grpc.StatusCode.NOT_FOUND):
                raise

    async def put(self, key: str, value: str, lease_id: int = 0) -> None:
        """See `Etcd.put`."""
        request = _put_request(key, value, lease_id)
        await self._call(lambda c: stubs.KVStub(c).Put(request, timeout=self._timeout))

    async def put_if_absent(self, key: str, value: str, lease_id: int = 0) -> KeyValue | None:
        """See `Etcd.put_if_absent`."""
        absent = rpc.Compare(key=key.encode(), target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=0)
        request = rpc.TxnRequest(
            compare=[absent],
            success=[rpc.RequestOp(request_put=_put_request(key, value, lease_id))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode()))],
        )
        answer = await self._call(lambda c: stubs.KVStub(c).Txn(request, timeout=self._timeout))
        return None if answer.succeeded else _key_value(answer.responses[0].response_range.kvs[0])

    async def list(self, prefix: str) -> Listing:
        """See `Etcd.list`."""
        request = rpc.RangeRequest(key=prefix.encode(), range_end=_prefix_end(prefix))
        answer = await self._call(lambda c: stubs.KVStub(c).Range(request, timeout=self._timeout))
        return Listing(tuple(map(_key_value, answer.kvs)), answer.header.revision)

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch]:
        """See `Etcd.watch`. One stream a watch, so that one canceled watch never touches another."""
        create = rpc.WatchCreateRequest(
            key=prefix.encode(), range_end=_prefix_end(prefix), start_revision=start_revision
        )
        stream = stubs.WatchStub(self._channels[self._current]).Watch(metadata=REQUIRE_LEADER)
        try:
            # A stream has no time limit, its creation must have one: a frozen etcd would never answer.
            await self._call(lambda _: self._open_watch(stream, create))
            while True:
                answer = await self._call(lambda _: stream.read())
                if answer is grpc.aio.EOF:
                    raise EtcdError("etcd ended the watch stream")
                _raise_if_canceled(answer)
                if answer.events:
                    yield WatchBatch(tuple(map(_event, answer.events)), answer.header.revision)
        finally:
            stream.cancel()

    async def _open_watch(self, stream: Any, create: Any) -> None:
        async with asyncio.timeout(self._timeout):
            await stream.write(rpc.WatchRequest(create_request=create))
            answer = await stream.read()
        if answer is grpc.aio.EOF:
            raise EtcdError("etcd ended the watch stream before the watch was created")
        _raise_if_canceled(answer)

    async def _call(self, request: Callable[[grpc.aio.Channel], Awaitable[Answer]]) -> Answer:
        at = self._current
        try:
            return await request(self._channels[at])
        except grpc.aio.AioRpcError as error:
            if error.code() in MOVE_ON:
                self._move_on(at)
            raise EtcdError(f"etcd at {self._endpoints[at]}: {error.code().name}: {error.details()}") from error
        except TimeoutError as error:
            self._move_on(at)
            raise EtcdError(f"etcd at {self._endpoints[at]} did not answer within {self._timeout:g} s") from error
        except asyncio.InvalidStateError as error:
            # grpc.aio's answer to a write on a stream that has already failed.
            raise EtcdError(f"etcd at {self._endpoints[at]}: the stream is closed") from error

    def _move_on(self, failed: int) -> None:
        # Of several requests that fail together, only the first moves on.
        if self._current == failed:
            self._current = (failed + 1) % len(self._channels)


def _put_request(key: str, value: str, lease_id: int) -> Any:
    return rpc.PutRequest(key=key.encode(), value=value.encode(), lease=lease_id)


def _prefix_end(prefix: str) -> bytes:
    """The first key after all that start with prefix: etcd's range end."""
    raw = prefix.encode().rstrip(b"\xff")
    if not raw:
        return b"\0"
    return raw[:-1] + bytes([raw[-1] + 1])


def _key_value(kv: Any) -> KeyValue:
    # Anybody can write anything into etcd: bytes that are no UTF-8 become U+FFFD and fail validation later on.
    return KeyValue(kv.key.decode(errors="replace"), kv.value.decode(errors="replace"), kv.lease)


def _event(event: Any) -> Event:
    return Event(_key_value(event.kv), deleted=event.type == event.DELETE)


def _raise_if_canceled(answer: Any) -> None:
    if answer.canceled:
        raise WatchCanceledError(answer.cancel_reason, answer.compact_revision)
