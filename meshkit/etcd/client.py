"""The port on the package etcd3: its generated API, on an asyncio channel.

etcd3's own client classes are left alone: its Watcher spins while etcd is down, never subscribes again, and is
silent on canceled watches; its Lease.refresh() says nothing of a lost lease (docs/decisions.md has the list).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import structlog
from etcd3.etcdrpc import rpc_pb2 as rpc
from etcd3.etcdrpc import rpc_pb2_grpc as stubs

from meshkit.errors import EtcdError, LeaseLostError, WatchCanceledError
from meshkit.etcd.port import Event, KeyValue, Lease, Listing, WatchBatch
from meshkit.pem import Pem, PemFiles, PemWatch

__all__ = ["EtcdClient", "EtcdLogin"]

log = structlog.stdlib.get_logger(__name__)

Answer = TypeVar("Answer")
Metadata = tuple[tuple[str, str], ...]
Request = Callable[[grpc.aio.Channel, Metadata], Awaitable[Answer]]

CHANNEL_OPTIONS = (
    # A channel's state (its reconnect backoff above all) is its own, not shared with others to the same address.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 1000),
    # A frozen etcd keeps its connections open: only pings tell. etcd refuses pings more often than every 5 s.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)
# What says more about the member than about the request. A member that is being stopped cancels what it has begun.
MEMBERS_FAULT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}
# etcd then ends a watch on a member that has lost the quorum, instead of leaving it silent.
REQUIRE_LEADER: Metadata = (("hasleader", "true"),)
# etcd has no status of its own for most of them.
TOKEN_REFUSED = ("invalid auth token", "revision of auth store is old", "user name is empty")
AUTH_NOT_ENABLED = "authentication is not enabled"


@dataclass(frozen=True, slots=True)
class EtcdLogin:
    """A user of etcd. The password's file is read at every login, so that a changed one is taken up.

    Parameters:
        user: its name in etcd.
        password_file: holds the password; a line end after it does not count.
    """

    user: str
    password_file: Path

    def password(self) -> str:
        """Read the password.

        Raises:
            ValueError: the file is missing, cannot be read, or holds none.
        """
        try:
            password = self.password_file.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.password_file}: {getattr(error, 'strerror', None) or error}") from error
        if not password:
            raise ValueError(f"{self.password_file}: expected a password, got an empty file")
        return password


class EtcdClient:
    """A connection to etcd; with several endpoints each request moves on to the next one until a member answers.

    Parameters:
        endpoints: `host:port` of one or more members of one cluster. A random one is the first to be used, so that
            many clients do not all sit on the same.
        timeout: seconds that any single request may take with one member. Default 2 s.
        tls: certificate files; None (default): plaintext. Read again when they change: new connections use the new
            ones, and streams under way go on with theirs.
        login: whom to log in as; None (default): no login. Where the token expires or is refused, or etcd has
            forgotten it, it logs in again. An etcd whose authentication is switched off is used without a token.

    Connects lazily: creating one never fails because etcd is away.

    Raises:
        ValueError: no endpoint, or certificates or a password that are of no use; one line.
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
        self._endpoints = tuple(endpoints)
        self._timeout = timeout
        self._tls = PemWatch(tls) if tls else None
        self._login = login
        if login:
            login.password()
        self._token: str | None = None
        self._logging_in = asyncio.Lock()
        self._current = (rng or random.Random()).randrange(len(self._endpoints))
        self._connections = self._connect()
        self._retired: tuple[_Connection, ...] = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; requests and watches under way are cancelled."""
        for connection in (*self._connections, *self._retired):
            await connection.channel.close()

    async def grant(self, ttl: int, lease_id: int = 0) -> Lease:
        """See `Etcd.grant`."""
        request = rpc.LeaseGrantRequest(TTL=ttl, ID=lease_id)
        try:
            answer = await self._ask(
                lambda c, m: stubs.LeaseStub(c).LeaseGrant(request, timeout=self._timeout, metadata=m)
            )
        except EtcdError as error:
            if not _is_status(error, grpc.StatusCode.FAILED_PRECONDITION, "lease already exists"):
                raise
            # An earlier try was granted, and its answer got lost.
            return Lease(lease_id, await self.keep_alive(lease_id))
        return Lease(answer.ID, answer.TTL)

    async def keep_alive(self, lease_id: int) -> int:
        """See `Etcd.keep_alive`."""
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
                raise EtcdError(f"etcd ended the renewal of lease {lease_id:x} unanswered")
            return answer
        finally:
            stream.cancel()

    async def revoke(self, lease_id: int) -> None:
        """See `Etcd.revoke`."""
        request = rpc.LeaseRevokeRequest(ID=lease_id)
        try:
            await self._ask(lambda c, m: stubs.LeaseStub(c).LeaseRevoke(request, timeout=self._timeout, metadata=m))
        except EtcdError as error:
            if not _is_status(error, grpc.StatusCode.NOT_FOUND):
                raise

    async def put(self, key: str, value: str, lease_id: int = 0) -> None:
        """See `Etcd.put`."""
        request = _put_request(key, value, lease_id)
        await self._ask(lambda c, m: stubs.KVStub(c).Put(request, timeout=self._timeout, metadata=m))

    async def put_if_absent(self, key: str, value: str, lease_id: int = 0) -> KeyValue | None:
        """See `Etcd.put_if_absent`."""
        absent = rpc.Compare(key=key.encode(), target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=0)
        request = rpc.TxnRequest(
            compare=[absent],
            success=[rpc.RequestOp(request_put=_put_request(key, value, lease_id))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode()))],
        )
        answer = await self._ask(lambda c, m: stubs.KVStub(c).Txn(request, timeout=self._timeout, metadata=m))
        return None if answer.succeeded else _key_value(answer.responses[0].response_range.kvs[0])

    async def list(self, prefix: str) -> Listing:
        """See `Etcd.list`."""
        request = rpc.RangeRequest(key=prefix.encode(), range_end=_prefix_end(prefix))
        answer = await self._ask(lambda c, m: stubs.KVStub(c).Range(request, timeout=self._timeout, metadata=m))
        return Listing(tuple(map(_key_value, answer.kvs)), answer.header.revision)

    async def watch(self, prefix: str, start_revision: int) -> AsyncGenerator[WatchBatch]:
        """See `Etcd.watch`. One stream a watch, so that one canceled watch never touches another."""
        create = rpc.WatchCreateRequest(
            key=prefix.encode(), range_end=_prefix_end(prefix), start_revision=start_revision
        )
        at = self._current
        async with self._channel(at) as channel:
            with self._errors_told(at):
                metadata = await self._metadata(channel)
                stream = stubs.WatchStub(channel).Watch(metadata=REQUIRE_LEADER + metadata)
            try:
                # A stream has no time limit, its creation must have one: a frozen etcd would never answer.
                with self._errors_told(at):
                    await self._open_watch(stream, create)
                while True:
                    with self._errors_told(at):
                        answer = await stream.read()
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
        if answer.canceled and _mentions(answer.cancel_reason, TOKEN_REFUSED):
            self._token = None
        _raise_if_canceled(answer)
        if answer.header.revision < create.start_revision - 1:
            # A watch from the future is silent until the future comes: for long, if etcd has lost its data meanwhile.
            raise EtcdError(f"etcd is at revision {answer.header.revision}, behind what it has listed")

    async def _ask(self, request: Request[Answer]) -> Answer:
        """Ask one member after the other, until one answers; raise the last one's error."""
        for remaining in reversed(range(len(self._endpoints))):
            at = self._current
            try:
                async with self._channel(at) as channel:
                    with self._errors_told(at):
                        return await self._ask_logged_in(channel, request)
            except EtcdError:
                if not remaining or self._current == at:
                    raise
        raise AssertionError("unreachable: the last member either answers or raises")

    async def _ask_logged_in(self, channel: grpc.aio.Channel, request: Request[Answer]) -> Answer:
        metadata = await self._metadata(channel)
        try:
            return await request(channel, metadata)
        except grpc.aio.AioRpcError as error:
            if self._login is None or not _mentions(error.details(), TOKEN_REFUSED):
                raise
        if metadata == self._token_metadata():
            self._token = None
        return await request(channel, await self._metadata(channel))

    async def _metadata(self, channel: grpc.aio.Channel) -> Metadata:
        """Log in, unless that is done; what to send with each request then."""
        if self._login is not None and self._token is None:
            async with self._logging_in:
                # Somebody else may have done it while this one waited.
                if self._token is None:
                    self._token = await self._authenticate(channel, self._login)
        return self._token_metadata()

    def _token_metadata(self) -> Metadata:
        return (("token", self._token),) if self._token else ()

    async def _authenticate(self, channel: grpc.aio.Channel, login: EtcdLogin) -> str:
        try:
            request = rpc.AuthenticateRequest(name=login.user, password=login.password())
        except ValueError as error:
            raise EtcdError(f"no login: {error}") from error
        try:
            answer = await stubs.AuthStub(channel).Authenticate(request, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            if not _mentions(error.details(), (AUTH_NOT_ENABLED,)):
                raise
            log.warning("etcd's authentication is not enabled, going on without it", user=login.user)
            return ""
        return str(answer.token)

    @asynccontextmanager
    async def _channel(self, at: int) -> AsyncGenerator[grpc.aio.Channel]:
        """The channel to a member, with the certificates as they are now."""
        if self._tls is not None and self._tls.changed():
            retired, self._connections = self._connections, self._connect()
            await self._retire(*retired)
        connection = self._connections[at]
        async with connection.used() as channel:
            try:
                yield channel
            except EtcdError as error:
                if _is_status(error, grpc.StatusCode.UNIMPLEMENTED):
                    await self._replace(at, connection)
                raise

    async def _replace(self, at: int, connection: _Connection) -> None:
        """Connect anew to a member that knows none of etcd's methods.

        etcd tells gRPC from plain HTTP once a connection. One that is opened while it starts can end up with its HTTP
        server, which would answer 404 to all requests on it, for ever.
        """
        # Of several requests that fail together, only the first does this.
        if self._connections[at] is connection:
            fresh = _Connection(_open_channel(self._endpoints[at], self._tls.pem if self._tls else None))
            self._connections = (*self._connections[:at], fresh, *self._connections[at + 1 :])
            await self._retire(connection)

    async def _retire(self, *connections: _Connection) -> None:
        """Close them as soon as nobody uses them; `close` closes those that are still in use then."""
        self._retired = tuple(old for old in (*self._retired, *connections) if old.users)
        for connection in connections:
            await connection.retire()

    def _connect(self) -> tuple[_Connection, ...]:
        pem = self._tls.pem if self._tls else None
        return tuple(_Connection(_open_channel(endpoint, pem)) for endpoint in self._endpoints)

    @contextmanager
    def _errors_told(self, at: int) -> Iterator[None]:
        """Turn what gRPC raises into EtcdErrors; move on from a member that is at fault."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            if error.code() in MEMBERS_FAULT:
                self._move_on(at)
            raise EtcdError(f"etcd at {self._endpoints[at]}: {error.code().name}: {error.details()}") from error
        except TimeoutError as error:
            self._move_on(at)
            raise EtcdError(f"etcd at {self._endpoints[at]} did not answer within {self._timeout:g} s") from error
        except asyncio.InvalidStateError as error:
            # grpc.aio's answer to a write on a stream that has already failed.
            self._move_on(at)
            raise EtcdError(f"etcd at {self._endpoints[at]}: the stream is closed") from error

    def _move_on(self, failed: int) -> None:
        # Of several requests that fail together, only the first moves on.
        if self._current == failed:
            self._current = (failed + 1) % len(self._endpoints)


class _Connection:
    """A channel that can be retired: closed as soon as nobody uses it, as closing cancels what is under way."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.users = 0
        self._retired = False

    @asynccontextmanager
    async def used(self) -> AsyncGenerator[grpc.aio.Channel]:
        self.users += 1
        try:
            yield self.channel
        finally:
            self.users -= 1
            await self._close_if_unused()

    async def retire(self) -> None:
        self._retired = True
        await self._close_if_unused()

    async def _close_if_unused(self) -> None:
        if self._retired and not self.users:
            await self.channel.close()


def _open_channel(endpoint: str, pem: Pem | None) -> grpc.aio.Channel:
    if pem is None:
        return grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.cert)
    return grpc.aio.secure_channel(endpoint, credentials, options=CHANNEL_OPTIONS)


def _is_status(error: EtcdError, code: grpc.StatusCode, details: str = "") -> bool:
    cause = error.__cause__
    return isinstance(cause, grpc.aio.AioRpcError) and cause.code() is code and details in (cause.details() or "")


def _mentions(text: str | None, phrases: Sequence[str]) -> bool:
    return any(phrase in (text or "") for phrase in phrases)


def _put_request(key: str, value: str, lease_id: int) -> Any:
    return rpc.PutRequest(key=key.encode(), value=value.encode(), lease=lease_id)


def _prefix_end(prefix: str) -> bytes:
    """The first key after all that start with prefix: etcd's range end."""
    raw = prefix.encode()
    # UTF-8 has no byte 255: there is always a next one.
    return raw[:-1] + bytes([raw[-1] + 1])


def _key_value(kv: Any) -> KeyValue:
    # Anybody can write anything into etcd. Of bytes that are no UTF-8, those of a key are spelled out, so that two keys
    # never become one; those of a value become U+FFFD and fail validation later on.
    return KeyValue(kv.key.decode(errors="backslashreplace"), kv.value.decode(errors="replace"), kv.lease)


def _event(event: Any) -> Event:
    return Event(_key_value(event.kv), deleted=event.type == event.DELETE)


def _raise_if_canceled(answer: Any) -> None:
    if answer.canceled:
        raise WatchCanceledError(answer.cancel_reason, answer.compact_revision)
