"""What can go wrong in the mesh, as one tree.

    MeshError
     ├─ EtcdError                 etcd did not do what it was asked for
     │   ├─ WatchCanceledError    etcd ended a watch (compaction, no leader, …): list again
     │   └─ LeaseLostError        the lease is gone: register again
     ├─ RefusedError              a call was not even tried
     │   ├─ NoEndpointsError      discovery knows no instance
     │   ├─ BreakerOpenError      the circuit is open
     │   ├─ MaxConcurrencyError   too many calls in flight through the breaker
     │   └─ RateLimitedError      no token before the call's deadline
     ├─ CutOffError               a call's channel was closed under it: its instance is gone, or renewed
     ├─ BreakerTimeoutError       the breaker's own time limit has passed
     ├─ RetryError                every attempt failed; names each of them
     └─ SpanExportError           a collector did not take spans
         ├─ CollectorUnavailableError   not now: send them again
         └─ SpansRefusedError           for good

Every error carries the gRPC status (`code`) that a server answers with when it lets the error pass, and that a
client logs as the call's outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import grpc

__all__ = [
    "BreakerOpenError",
    "BreakerTimeoutError",
    "CollectorUnavailableError",
    "CutOffError",
    "EtcdError",
    "FailedAttempt",
    "LeaseLostError",
    "MaxConcurrencyError",
    "MeshError",
    "NoEndpointsError",
    "RateLimitedError",
    "RefusedError",
    "RetryError",
    "SpanExportError",
    "SpansRefusedError",
    "StatusMeaning",
    "WatchCanceledError",
    "is_instance_failure",
    "is_retryable",
    "is_system_failure",
    "meaning_of",
    "status_of",
]


class StatusMeaning(NamedTuple):
    """What a gRPC status says.

    Args:
        against_instance: it speaks against the instance that answered with it.
        against_service: as the result of a whole call, all attempts, it speaks against the service.
        elsewhere: another instance may do better.
    """

    against_instance: bool
    against_service: bool
    elsewhere: bool


# What each status is used for: https://grpc.io/docs/guides/status-codes/
_MEANINGS = {
    grpc.StatusCode.OK: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    # Of a server that stops: it answers new calls with it. (Where the caller cancels, asyncio says so instead.)
    grpc.StatusCode.CANCELLED: StatusMeaning(against_instance=False, against_service=False, elsewhere=True),
    # Not reached, going away, or too slow for its share of the deadline.
    grpc.StatusCode.UNAVAILABLE: StatusMeaning(against_instance=True, against_service=True, elsewhere=True),
    grpc.StatusCode.DEADLINE_EXCEEDED: StatusMeaning(against_instance=True, against_service=True, elsewhere=True),
    # Something in the instance is broken.
    grpc.StatusCode.UNKNOWN: StatusMeaning(against_instance=True, against_service=True, elsewhere=False),
    grpc.StatusCode.INTERNAL: StatusMeaning(against_instance=True, against_service=True, elsewhere=False),
    grpc.StatusCode.DATA_LOSS: StatusMeaning(against_instance=True, against_service=True, elsewhere=False),
    # A limiter at work: an overloaded service is not helped by more calls.
    grpc.StatusCode.RESOURCE_EXHAUSTED: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    # About the caller.
    grpc.StatusCode.PERMISSION_DENIED: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    grpc.StatusCode.UNAUTHENTICATED: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    # About the request.
    grpc.StatusCode.UNIMPLEMENTED: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    grpc.StatusCode.INVALID_ARGUMENT: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    grpc.StatusCode.NOT_FOUND: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    grpc.StatusCode.ALREADY_EXISTS: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    grpc.StatusCode.FAILED_PRECONDITION: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    grpc.StatusCode.ABORTED: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
    grpc.StatusCode.OUT_OF_RANGE: StatusMeaning(against_instance=False, against_service=False, elsewhere=False),
}


def meaning_of(code: grpc.StatusCode) -> StatusMeaning:
    """What a status says of the instance, of the service, and of other instances."""
    return _MEANINGS[code]


class MeshError(Exception):
    """Base of all errors that meshkit raises."""

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL


class EtcdError(MeshError):
    """Etcd did not answer, or refused."""

    code = grpc.StatusCode.UNAVAILABLE


class WatchCanceledError(EtcdError):
    """Etcd ended a watch.

    Args:
        reason: etcd's own words, may be empty.
        compact_revision: the oldest revision that can still be watched, 0 when compaction was not the cause.
    """

    def __init__(self, reason: str, compact_revision: int = 0) -> None:
        super().__init__(f"watch canceled: {reason or 'no reason given'} (compact revision {compact_revision})")
        self.compact_revision = compact_revision


class LeaseLostError(EtcdError):
    """The lease expired or was revoked."""


class RefusedError(MeshError):
    """The call was refused on this side: no instance has seen it."""

    code = grpc.StatusCode.UNAVAILABLE


class NoEndpointsError(RefusedError):
    """Discovery knows no instance, or none could be connected to."""


class BreakerOpenError(RefusedError):
    """The circuit is open: calls fail at once until the sleep window has passed and one probe succeeded."""


class MaxConcurrencyError(RefusedError):
    """The breaker's concurrency limit is reached."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class RateLimitedError(RefusedError):
    """The rate limiter has no token for this call, or none before its deadline."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class CutOffError(MeshError):
    """The call's channel was closed under it: its instance is gone, or renewed, and it took longer than the drain."""

    code = grpc.StatusCode.UNAVAILABLE


class BreakerTimeoutError(MeshError):
    """The call took longer than the breaker allows."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class SpanExportError(MeshError):
    """A collector did not take spans."""


class CollectorUnavailableError(SpanExportError):
    """It cannot take them now: HTTP's 5xx or 429."""


class SpansRefusedError(SpanExportError):
    """It refuses them for good, and this is why: an exporter that knows raises it."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """One failed attempt of a call: `number` counts from 1, `duration` is in seconds."""

    number: int
    instance: str
    error: BaseException
    duration: float

    def __str__(self) -> str:
        """Say it in one clause, e.g. `#1 127.0.0.1:50052 UNAVAILABLE after 2 ms: connection refused`."""
        return (
            f"#{self.number} {self.instance} {status_of(self.error).name}"
            f" after {self.duration * 1000:.0f} ms: {_details(self.error)}"
        )


class RetryError(MeshError):
    """No attempt succeeded, or the error is not one to retry. `attempts` holds them all, in order."""

    def __init__(self, reason: str, attempts: Sequence[FailedAttempt]) -> None:
        self.attempts = tuple(attempts)
        self.code = status_of(self.attempts[-1].error)
        super().__init__(f"{reason}: " + "; ".join(map(str, self.attempts)))


def status_of(error: BaseException) -> grpc.StatusCode:
    """The gRPC status that stands for an error: its own code, DEADLINE_EXCEEDED for time-outs, else UNKNOWN."""
    if isinstance(error, MeshError):
        return error.code
    if isinstance(error, grpc.aio.AioRpcError):
        return error.code()
    if isinstance(error, TimeoutError):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.UNKNOWN


def is_instance_failure(error: Exception) -> bool:
    """Whether an error speaks against the health of the instance that it came from."""
    return _MEANINGS[status_of(error)].against_instance


def is_system_failure(error: Exception) -> bool:
    """Whether an error speaks against the service's health: UNAVAILABLE, INTERNAL, UNKNOWN and the like."""
    return _MEANINGS[status_of(error)].against_service


def is_retryable(error: Exception) -> bool:
    """Whether another instance may do better."""
    return _MEANINGS[status_of(error)].elsewhere


def _details(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.details() or "no details"
    return str(error) or type(error).__name__
