"""Connections to the members of an etcd cluster: one is in use, until it fails and the next one takes its place."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from meshkit.address import grpc_target
from meshkit.background import end_tasks
from meshkit.clock import unix_time
from meshkit.errors import EtcdError
from meshkit.etcd.cluster import Cluster
from meshkit.etcd.stubs import rpc, stubs
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
NO_ANSWER = "an answer that cannot be read"
# Seconds that a connection is kept although requests fail on it: new connections do not help an etcd that is slow.
RENEW_AFTER = 5.0


class Connection:
    """A connection to one member: `with connection as channel` while it is in use."""

    def __init__(self, member: int, endpoint: str, pem: Pem | None) -> None:
        # Its position among the endpoints.
        self.member = member
        self.endpoint = endpoint
        # Whether it has named its cluster.
        self.known = False
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
        self._connections = [Connection(at, endpoint, self._pem) for at, endpoint in enumerate(endpoints)]
        self._cluster = Cluster(len(endpoints))
        self._tasks: set[asyncio.Task[None]] = set()
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
        await end_tasks(tuple(self._tasks))
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
            # One name may stand for several members, of which one belongs to another cluster.
            self._move_on(at, connection, at_once=isinstance(error, AnotherClusterError))
            raise EtcdError(f"etcd at {connection.endpoint}: {error}") from error
        except asyncio.CancelledError as error:
            # grpc.aio's calls end like this, too, where it is not their caller that is cancelled.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise EtcdError(f"etcd at {connection.endpoint}: the connection was closed") from error

    def check(self, connection: Connection, answer: Any) -> None:
        """Note an answer, and look at which cluster it comes from.

        Raises:
            UselessAnswerError: it is not ours, or the answer cannot be read.
        """
        # What cannot be decoded is None to gRPC.
        if answer is None:
            raise UselessAnswerError(NO_ANSWER)
        begins = not self._cluster.id
        first, connection.known = not connection.known, True
        if not self._cluster.named(connection.member, connection.endpoint, answer.header.cluster_id, first=first):
            ours, theirs = self._cluster.id, answer.header.cluster_id
            raise AnotherClusterError(f"it belongs to cluster {theirs:x}, expected {ours:x}")
        self.answered()
        if begins and self._cluster.id and len(self) > 1:
            # The first one to answer may be the odd one.
            self._keep(self._ask_the_others(connection), "clusters of the members of etcd")

    async def _ask_the_others(self, first: Connection) -> None:
        others = [connection for connection in self._connections if connection.member != first.member]
        # Who does not answer now is looked at when it is used.
        await asyncio.gather(*map(self._ask_for_cluster, others), return_exceptions=True)
        if self._cluster.is_odd(first.member):
            self._move_on(first.member, first, at_once=True)

    async def _ask_for_cluster(self, connection: Connection) -> None:
        # A read of one key that need not exist, without the quorum. Where etcd has logins it is refused: then the first
        # member to answer is believed until most of those that are used name another cluster.
        request = rpc.RangeRequest(key=b"\0", limit=1, serializable=True)
        with connection.shared:
            answer = await stubs.KVStub(connection.shared.channel).Range(request, timeout=self._timeout)
        self.check(connection, answer)

    def _keep(self, life: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(life, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _move_on(self, failed: int, connection: Connection, *, at_once: bool = False) -> None:
        self._failures += 1
        if self._failures >= len(self) and self.away_since is None:
            self.away_since = unix_time()
        # Of several requests that fail together, only the first moves on.
        if self.current == failed:
            self.current = (failed + 1) % len(self)
        if self._connections[failed] is connection and (at_once or not connection.is_in_the_making()):
            connection.given_up = True
            self._replace(failed)

    def _replace(self, at: int) -> None:
        """Make a new connection; the old one is closed as soon as it is no longer used."""
        old = self._connections[at]
        self._connections[at] = Connection(at, old.endpoint, self._pem)
        self._keep(old.shared.retire(drain=None), f"retired connection to {old.endpoint}")


class UselessAnswerError(Exception):
    """A member has answered something that etcd never would."""


class AnotherClusterError(UselessAnswerError):
    """A member has answered that belongs to another cluster."""


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
