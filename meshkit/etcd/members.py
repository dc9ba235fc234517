"""Connections to the members of an etcd cluster: one is in use, until it fails and the next one takes its place."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc

from meshkit.address import grpc_target
from meshkit.background import end_tasks
from meshkit.errors import EtcdError
from meshkit.options import etcd_options
from meshkit.shared_channel import SharedChannel
from meshkit.tls.credentials import channel_credentials
from meshkit.tls.pem import Pem, PemFiles, PemWatch

__all__ = ["Connection", "Members", "UselessAnswerError", "is_status"]

# Statuses about the request, where etcd says so: any other member would answer the same. All other statuses make a
# member useless: it is stopped, frozen, without a quorum, full, a learner, or not etcd at all.
REQUESTS_FAULT = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
}
# How the texts of etcd's own errors begin (api/v3rpc/rpctypes/error.go); a proxy on the way has others.
ETCDS_OWN = "etcdserver: "
# What a learner answers to all but reads without the quorum (FAILED_PRECONDITION from etcd 3.6 on).
LEARNER = "not supported for learner"
# Seconds that a connection is kept although requests fail on it: new connections do not help an etcd that is slow.
RENEW_AFTER = 5.0


class Connection:
    """A connection to one member: `with connection as channel` while it is in use."""

    def __init__(self, endpoint: str, pem: Pem | None) -> None:
        self.endpoint = endpoint
        # Replaced by another one: what is under way on it, such as a watch, should move there.
        self.given_up = False
        self.shared = SharedChannel(_open_channel(endpoint, pem))
        self._opened = time.monotonic()

    def is_in_the_making(self) -> bool:
        """Whether it is still connecting, or has been up for a moment only."""
        connecting = self.shared.channel.get_state() is grpc.ChannelConnectivity.CONNECTING
        return connecting or time.monotonic() - self._opened < RENEW_AFTER


class Members:
    """One connection a member, of which one is in use at a time.

    When a member fails, the next one is used, and the failed member's connection is made again: its name may stand for
    several members, lead to another address by now, or not have resolved, after which gRPC may wait two minutes before
    it asks again.

    Args:
        endpoints: `host:port` of each. A random one is the first to be used, so that many clients do not all use the
            same one.
        timeout: seconds that a request may take, for the error's text.
        tls: certificate files; None: plaintext.
        rng: the source of randomness.

    Raises:
        ValueError: the certificates cannot be used.
    """

    def __init__(self, endpoints: Sequence[str], *, timeout: float, tls: PemFiles | None, rng: random.Random) -> None:
        self._timeout = timeout
        self._tls = PemWatch(tls) if tls else None
        self.current = rng.randrange(len(endpoints))
        self._connections = [Connection(endpoint, self._pem) for endpoint in endpoints]
        self._retired: set[asyncio.Task[None]] = set()
        self._failures = 0
        # Unix seconds, since each member has failed and none has answered; None: the last answer was one.
        self.away_since: float | None = None

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def _pem(self) -> Pem | None:
        return self._tls.pem if self._tls else None

    def answered(self) -> None:
        """Note that a member has answered."""
        self._failures, self.away_since = 0, None

    async def close(self) -> None:
        """Close all connections; what is under way is cancelled."""
        await end_tasks(tuple(self._retired))
        for connection in self._connections:
            await connection.shared.channel.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """The connection in use, with the certificates as they are now.

        Turns what goes wrong in the body into EtcdErrors, and switches to the next member when this one is at fault.
        """
        if self._tls is not None and self._tls.changed():
            for at in range(len(self)):
                self._replace(at)
        at = self.current
        connection = self._connections[at]
        try:
            with connection.shared:
                yield connection
        except grpc.aio.AioRpcError as error:
            if not _is_about_the_request(error):
                # etcd tells gRPC from plain HTTP once per connection. A connection that is opened while etcd starts can
                # end up at its HTTP server, which would answer 404 to all requests on it, for ever.
                self._move_on(at, connection, at_once=error.code() is grpc.StatusCode.UNIMPLEMENTED)
            else:
                self.answered()
            raise EtcdError(f"etcd at {connection.endpoint}: {error.code().name}: {error.details()}") from error
        except TimeoutError as error:
            self._move_on(at, connection)
            raise EtcdError(f"etcd at {connection.endpoint} did not answer within {self._timeout:g} s") from error
        except asyncio.InvalidStateError as error:
            # grpc.aio's answer to a write on a stream that has already failed.
            self._move_on(at, connection)
            raise EtcdError(f"etcd at {connection.endpoint}: the stream is closed") from error
        except UselessAnswerError as error:
            self._move_on(at, connection)
            raise EtcdError(f"etcd at {connection.endpoint}: {error}") from error
        except asyncio.CancelledError as error:
            # grpc.aio's calls end like this, too, where it is not their caller that is cancelled.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise EtcdError(f"etcd at {connection.endpoint}: the connection was closed") from error

    def _move_on(self, failed: int, connection: Connection, *, at_once: bool = False) -> None:
        self._failures += 1
        if self._failures >= len(self) and self.away_since is None:
            self.away_since = time.time()
        # Of several requests that fail together, only the first moves on.
        if self.current == failed:
            self.current = (failed + 1) % len(self)
        if self._connections[failed] is connection and (at_once or not connection.is_in_the_making()):
            connection.given_up = True
            self._replace(failed)

    def _replace(self, at: int) -> None:
        """Make a new connection; the old one is closed as soon as it is no longer used."""
        old = self._connections[at]
        self._connections[at] = Connection(old.endpoint, self._pem)
        retired = asyncio.create_task(old.shared.retire(drain=None), name=f"retired connection to {old.endpoint}")
        self._retired.add(retired)
        retired.add_done_callback(self._retired.discard)


class UselessAnswerError(Exception):
    """A member has answered something that etcd never would."""


def _is_about_the_request(error: grpc.aio.AioRpcError) -> bool:
    details = error.details() or ""
    return error.code() in REQUESTS_FAULT and details.startswith(ETCDS_OWN) and LEARNER not in details


def _open_channel(endpoint: str, pem: Pem | None) -> grpc.aio.Channel:
    target, options = grpc_target(endpoint), etcd_options()
    if pem is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, channel_credentials(pem), options=options)


def is_status(error: EtcdError, code: grpc.StatusCode, details: str = "") -> bool:
    """Whether etcd answered with that status, and with those words in its details."""
    cause = error.__cause__
    return isinstance(cause, grpc.aio.AioRpcError) and cause.code() is code and details in (cause.details() or "")
