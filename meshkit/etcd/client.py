"""The port on the package etcd3: its generated API, on an asyncio channel.

etcd3's own client classes are not used: its Watcher spins while etcd is down, never subscribes again, and is
silent on canceled watches; its Lease.refresh() does not report a lost lease (docs/decisions.md has the list).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from meshkit.errors import EtcdError, LeaseLostError, WatchCanceledError
from meshkit.etcd.api import Event, KeyValue, Lease, Listing, WatchBatch
from meshkit.etcd.login import EtcdLogin, Metadata, Token
from meshkit.etcd.members import Connection, Members, UselessAnswerError, is_status
from meshkit.etcd.stubs import rpc, stubs
from meshkit.tls.pem import PemFiles

__all__ = ["EtcdClient"]

Answer = TypeVar("Answer")
Request = Callable[[grpc.aio.Channel, Metadata], Awaitable[Answer]]

# etcd then ends a watch on a member that has lost the quorum, instead of leaving it silent.
REQUIRE_LEADER: Metadata = (("hasleader", "true"),)
# Seconds without a change after which a watch makes sure that etcd is still there.
SILENCE = 2.5
# Keys in one answer to a list: less than 100 ms to decode. etcd counts all that follow each time it is asked.
PAGE = 5000
# Of keys and values of one list: some 200,000 registrations.
MAX_LISTING_BYTES = 8 * 1024 * 1024
# etcd counts revisions from 1 on, in 64 bits with a sign.
REVISIONS = range(1, 2**62)


class EtcdClient:
    """A connection to etcd; with several endpoints each request moves on to the next one until a member answers.

    Args:
        endpoints: `host:port` of one or more members of one cluster. A random one is the first to be used, so that
            many clients do not all use the same one.
        timeout: seconds that any single request may take with one member. Default 2 s.
        tls: certificate files; None (default): plaintext. Read again when they change: new connections use the new
            ones, and streams under way go on with theirs.
        login: the user to log in as; None (default): no login. It logs in again when the token expires or is refused,
            or when etcd has forgotten it. An etcd whose authentication is switched off is used without a token.

    Connects lazily: creating one never fails because etcd is away.

    Raises:
        ValueError: no endpoint, or certificates or a password that cannot be used; one line.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        timeout: float = 2.0,
        tls: PemFiles | None = None,
        login: EtcdLogin | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("expected at least one etcd endpoint (host:port), got none")
        self._timeout = timeout
        if login:
            login.password()
        self._token = Token(login, timeout)
        self._members = Members(endpoints, timeout=timeout, tls=tls, rng=rng or random.Random())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; requests and watches under way are cancelled."""
        await self._members.close()

    @property
    def away_since(self) -> float | None:
        """Unix seconds since no member answers, as far as was asked; None: one does, or nothing was asked yet."""
        return self._members.away_since

    async def grant(self, ttl: int, lease_id: int = 0) -> Lease:
        """Grant a lease of at least `ttl` seconds, with an id of the caller's choice where one is given."""
        request = rpc.LeaseGrantRequest(TTL=ttl, ID=lease_id)
        try:
            answer = await self._ask(partial(self._grant_once, request))
        except EtcdError as error:
            if not is_status(error, grpc.StatusCode.FAILED_PRECONDITION, "lease already exists"):
                raise
            # An earlier try was granted, and its answer got lost.
            return Lease(lease_id, await self.keep_alive(lease_id))
        return Lease(answer.ID, answer.TTL)

    async def _grant_once(self, request: Any, channel: grpc.aio.Channel, metadata: Metadata) -> Any:
        answer = await stubs.LeaseStub(channel).LeaseGrant(request, timeout=self._timeout, metadata=metadata)
        # What is put under lease 0 is under none, and stays for good.
        if answer is not None and (answer.ID <= 0 or (request.ID or answer.ID) != answer.ID or answer.TTL <= 0):
            raise UselessAnswerError(f"it granted lease {answer.ID:x} for {answer.TTL} s, asked for {request.ID:x}")
        return answer

    async def keep_alive(self, lease_id: int) -> int:
        """Renew a lease once and return its new TTL in seconds; LeaseLostError when there is no such lease."""
        answer = await self._ask(lambda c, m: self._keep_alive_once(c, m, lease_id))
        # etcd answers a renewal of a lease that it does not know with TTL 0, not with an error.
        if answer.TTL <= 0:
            raise LeaseLostError(f"lease {lease_id:x} is gone")
        return int(answer.TTL)

    async def _keep_alive_once(self, channel: grpc.aio.Channel, metadata: Metadata, lease_id: int) -> Any:
        stream = stubs.LeaseStub(channel).LeaseKeepAlive(timeout=self._timeout, metadata=metadata)
        try:
            await stream.write(rpc.LeaseKeepAliveRequest(ID=lease_id))
            answer = await stream.read()
            if answer is grpc.aio.EOF:
                raise UselessAnswerError(f"the renewal of lease {lease_id:x} was ended unanswered")
            if answer is not None and lease_id != answer.ID:
                raise UselessAnswerError(f"it renewed lease {answer.ID:x} instead of {lease_id:x}")
            return answer
        finally:
            stream.cancel()

    async def revoke(self, lease_id: int) -> None:
        """Revoke a lease and delete its keys; a lease that is already gone is no error."""
        request = rpc.LeaseRevokeRequest(ID=lease_id)
        try:
            await self._ask(lambda c, m: stubs.LeaseStub(c).LeaseRevoke(request, timeout=self._timeout, metadata=m))
        except EtcdError as error:
            if not is_status(error, grpc.StatusCode.NOT_FOUND):
                raise

    async def put(self, key: str, value: str, lease_id: int = 0) -> None:
        """Store a value under a lease, or under none."""
        request = _put_request(key, value, lease_id)
        await self._ask(lambda c, m: stubs.KVStub(c).Put(request, timeout=self._timeout, metadata=m))

    async def put_if_absent(self, key: str, value: str, lease_id: int = 0) -> KeyValue | None:
        """Store a value unless the key exists; return what is stored there already, if anything."""
        absent = rpc.Compare(key=key.encode(), target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=0)
        request = rpc.TxnRequest(
            compare=[absent],
            success=[rpc.RequestOp(request_put=_put_request(key, value, lease_id))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode()))],
        )
        answer = await self._ask(lambda c, m: stubs.KVStub(c).Txn(request, timeout=self._timeout, metadata=m))
        if answer.succeeded:
            return None
        standing = [kv for response in answer.responses for kv in response.response_range.kvs]
        if not standing:
            raise EtcdError(f"etcd says that {key} is there, but not what it holds")
        return _key_value(standing[0])

    async def list(self, prefix: str) -> Listing:
        """Return all keys that start with `prefix`, and the revision at which that was so."""
        start, size, revision = prefix.encode(), 0, 0
        items: list[KeyValue] = []
        while True:
            # Page by page, all of one revision: a long answer takes long to decode, and nothing else runs meanwhile.
            request = rpc.RangeRequest(key=start, range_end=_prefix_end(prefix), limit=PAGE, revision=revision)
            answer = await self._ask(partial(self._range, request))
            revision = revision or answer.header.revision
            if revision not in REVISIONS:
                raise EtcdError(f"etcd listed {prefix} at revision {revision}, which cannot be")
            items += map(_key_value, answer.kvs)
            size += sum(len(kv.key) + len(kv.value) for kv in answer.kvs)
            if size > MAX_LISTING_BYTES:
                raise EtcdError(f"etcd lists more than {MAX_LISTING_BYTES >> 20} MiB below {prefix}")
            if not answer.more or not answer.kvs:
                return Listing(tuple(items), revision)
            start = answer.kvs[-1].key + b"\0"

    async def _range(self, request: Any, channel: grpc.aio.Channel, metadata: Metadata) -> Any:
        answer = await stubs.KVStub(channel).Range(request, timeout=self._timeout, metadata=metadata)
        # Page after page of the same keys would never end.
        if answer is not None and any(kv.key < request.key for kv in answer.kvs):
            raise UselessAnswerError("it listed keys that were not asked for")
        return answer

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch]:
        """Follow all changes under `prefix`; each watch has a stream of its own, which no other watch can end."""
        create = rpc.WatchCreateRequest(
            key=prefix.encode(), range_end=_prefix_end(prefix), start_revision=start_revision
        )
        with self._members.connection() as connection:
            channel = connection.shared.channel
            metadata = await self._token.metadata(channel)
            stream = stubs.WatchStub(channel).Watch(metadata=REQUIRE_LEADER + metadata)
            try:
                # A stream has no time limit, its creation must have one: a frozen etcd would never answer.
                await self._open_watch(stream, connection, create, metadata)
                while True:
                    answer = await self._read(stream, connection, prefix, metadata)
                    self._check_watch(answer, connection, metadata)
                    if answer.events:
                        yield WatchBatch(tuple(map(_event, answer.events)), answer.header.revision)
            finally:
                stream.cancel()

    async def _open_watch(self, stream: Any, connection: Connection, create: Any, metadata: Metadata) -> None:
        async with asyncio.timeout(self._timeout):
            await stream.write(rpc.WatchRequest(create_request=create))
            answer = await stream.read()
        self._check_watch(answer, connection, metadata)
        if not answer.created or answer.events:
            raise UselessAnswerError("it did not say that the watch was created")
        if answer.header.revision < create.start_revision - 1:
            # A watch from a future revision is silent until etcd gets there: for long, if etcd has lost its data.
            raise UselessAnswerError(f"it is at revision {answer.header.revision}, behind what was listed")

    async def _read(self, stream: Any, connection: Connection, prefix: str, metadata: Metadata) -> Any:
        """The watch's next answer; while there is none, make sure that etcd is still there.

        A read of one key that need not exist, without the quorum: it costs etcd next to nothing. gRPC's pings take
        longer, as etcd allows one in 5 s, and a proxy on the way may answer them itself.
        """
        read = asyncio.ensure_future(stream.read())
        try:
            while True:
                await asyncio.wait((read,), timeout=SILENCE)
                if read.done():
                    return read.result()
                if connection.given_up:
                    raise EtcdError(f"etcd at {connection.endpoint}: connected anew meanwhile")
                request = rpc.RangeRequest(key=prefix.encode(), limit=1, serializable=True)
                stub = stubs.KVStub(connection.shared.channel)
                self._members.check(connection, await stub.Range(request, timeout=self._timeout, metadata=metadata))
        except grpc.aio.AioRpcError as error:
            self._token.refused(error.details(), metadata)
            raise
        finally:
            read.cancel()

    def _check_watch(self, answer: Any, connection: Connection, metadata: Metadata) -> None:
        """Raise an error unless the watch goes on."""
        if answer is grpc.aio.EOF:
            raise UselessAnswerError("the watch stream was ended")
        self._members.check(connection, answer)
        if not answer.canceled:
            return
        refused = self._token.refused(answer.cancel_reason, metadata)
        canceled = WatchCanceledError(answer.cancel_reason, answer.compact_revision)
        if answer.compact_revision or refused or "permission denied" in answer.cancel_reason:
            raise canceled
        raise UselessAnswerError(str(canceled)) from canceled

    async def _ask(self, request: Request[Answer]) -> Answer:
        """Ask one member after another until one answers; raise the last one's error."""
        for remaining in reversed(range(len(self._members))):
            at = self._members.current
            try:
                with self._members.connection() as connection:
                    answer = await self._ask_logged_in(connection.shared.channel, request)
                    self._members.check(connection, answer)
                    return answer
            except EtcdError:
                if not remaining or self._members.current == at:
                    raise
        raise AssertionError("unreachable: the last member either answers or raises")

    async def _ask_logged_in(self, channel: grpc.aio.Channel, request: Request[Answer]) -> Answer:
        metadata = await self._token.metadata(channel)
        try:
            return await request(channel, metadata)
        except grpc.aio.AioRpcError as error:
            if not self._token.refused(error.details(), metadata):
                raise
            return await request(channel, await self._token.metadata(channel))


def _put_request(key: str, value: str, lease_id: int) -> Any:
    return rpc.PutRequest(key=key.encode(), value=value.encode(), lease=lease_id)


def _prefix_end(prefix: str) -> bytes:
    """The first key after all that start with prefix: etcd's range end."""
    raw = prefix.encode()
    # UTF-8 has no byte 255: there is always a next one.
    return raw[:-1] + bytes([raw[-1] + 1])


def _key_value(kv: Any) -> KeyValue:
    # Any bytes may be in etcd. Those of a key that are not UTF-8 are escaped, so that two keys never become the same;
    # those of a value become U+FFFD and fail validation later.
    return KeyValue(kv.key.decode(errors="backslashreplace"), kv.value.decode(errors="replace"), kv.lease)


def _event(event: Any) -> Event:
    return Event(_key_value(event.kv), deleted=event.type == event.DELETE)
