"""Connections to the members of an etcd cluster: one is in use, until it fails and the next one takes its place."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import grpc

from meshkit.address import grpc_target
from meshkit.errors import EtcdError
from meshkit.options import etcd_options
from meshkit.tls.credentials import channel_credentials
from meshkit.tls.pem import Pem, PemFiles, PemWatch

__all__ = ["Members", "is_status"]

# What says more about the member than about the request. A member that is being stopped cancels what it has begun.
MEMBERS_FAULT = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}


class Members:
    """One connection a member, of which one is in use at a time.

    Args:
        endpoints: `host:port` of each. A random one is the first to be used, so that many clients do not all sit on
            the same.
        timeout: seconds that a request may take, for the error's text.
        tls: certificate files; None: plaintext.
        rng: the source of randomness.

    Raises:
        ValueError: the certificates are of no use.
    """

    def __init__(self, endpoints: Sequence[str], *, timeout: float, tls: PemFiles | None, rng: random.Random) -> None:
        self._endpoints = tuple(endpoints)
        self._timeout = timeout
        self._tls = PemWatch(tls) if tls else None
        self.current = rng.randrange(len(self._endpoints))
        self._connections = self._connect()
        self._retired: tuple[_Connection, ...] = ()

    def __len__(self) -> int:
        return len(self._endpoints)

    async def close(self) -> None:
        """Close all connections; what is under way is cancelled."""
        for connection in (*self._connections, *self._retired):
            await connection.channel.close()

    @asynccontextmanager
    async def channel(self, at: int) -> AsyncGenerator[grpc.aio.Channel]:
        """The channel to a member, with the certificates as they are now."""
        if self._tls is not None and self._tls.changed():
            retired, self._connections = self._connections, self._connect()
            await self._retire(*retired)
        connection = self._connections[at]
        async with connection.used() as channel:
            try:
                yield channel
            except EtcdError as error:
                if is_status(error, grpc.StatusCode.UNIMPLEMENTED):
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
    def errors_told(self, at: int) -> Iterator[None]:
        """Turn what gRPC raises in the body into EtcdErrors; move on from a member that is at fault."""
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
        if self.current == failed:
            self.current = (failed + 1) % len(self._endpoints)


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
    target, options = grpc_target(endpoint), etcd_options()
    if pem is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, channel_credentials(pem), options=options)


def is_status(error: EtcdError, code: grpc.StatusCode, details: str = "") -> bool:
    """Whether etcd answered with that status, and with those words in its details."""
    cause = error.__cause__
    return isinstance(cause, grpc.aio.AioRpcError) and cause.code() is code and details in (cause.details() or "")
