"""What can go wrong in the mesh, as one tree.

    MeshError
     ├─ EtcdError                 etcd did not do what it was asked for
     │   ├─ WatchCanceledError    etcd ended a watch (compaction, no leader, …): list again
     │   └─ LeaseLostError        the lease is gone: register again
     ├─ RefusedError              a call was not even tried
     │   ├─ NoEndpointsError      discovery knows no instance
     │   ├─ NotConnectedError     no connection to the instance
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
    "MAX_DETAILS",
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
    "NotConnectedError",
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
    "shortened",
    "status_of",
]


class StatusMeaning(NamedTuple):
    """What a gRPC status says.

    Args:
        against_instance: it counts against the instance that answered with it; None: only if another instance answers
            the same request well, as the fault may also be in the request or the caller.
        against_service: as the result of a whole call, with all attempts, it counts against the service.
        elsewhere: another instance may answer well.
        passes: the same instance may answer well a moment later.
    """

    against_instance: bool | None
    against_service: bool
    elsewhere: bool
    passes: bool


_SICK = StatusMeaning(against_instance=True, against_service=True, elsewhere=True, passes=True)
_BROKEN = StatusMeaning(against_instance=True, against_service=True, elsewhere=True, passes=False)
_BUSY = StatusMeaning(against_instance=None, against_service=False, elsewhere=True, passes=True)
_ASKS_ANOTHER = StatusMeaning(against_instance=None, against_service=False, elsewhere=True, passes=False)
_ANSWER = StatusMeaning(against_instance=False, against_service=False, elsewhere=False, passes=False)

# What each status is used for: https://grpc.io/docs/guides/status-codes/. Those that always count are the ones that
# Envoy's outlier detection treats as 5xx (source/common/grpc/status.cc), except UNIMPLEMENTED. gRPC's own outlier
# detection (proposal A50) counts all but OK, which would eject instances for NOT_FOUND; its retries (A6) leave the
# statuses to the service's owner.
_MEANINGS = {
    grpc.StatusCode.OK: _ANSWER,
    # Not reached, going away, or too slow for its share of the deadline.
    grpc.StatusCode.UNAVAILABLE: _SICK,
    grpc.StatusCode.DEADLINE_EXCEEDED: _SICK,
    # Something in the instance is broken: an exception, an answer that cannot be read.
    grpc.StatusCode.UNKNOWN: _BROKEN,
    grpc.StatusCode.INTERNAL: _BROKEN,
    grpc.StatusCode.DATA_LOSS: _BROKEN,
    # Of a server that stops: it answers new calls with it. (Where the caller cancels, asyncio says so instead.)
    grpc.StatusCode.CANCELLED: _BUSY,
    # A server whose limiter refuses calls is not sick. It is also the status of an answer that is too large.
    grpc.StatusCode.RESOURCE_EXHAUSTED: _BUSY,
    # From one instance: a wrong configuration, an old version, or another program at its address. From all: it is true.
    grpc.StatusCode.UNIMPLEMENTED: _ASKS_ANOTHER,
    grpc.StatusCode.PERMISSION_DENIED: _ASKS_ANOTHER,
    grpc.StatusCode.UNAUTHENTICATED: _ASKS_ANOTHER,
    # About the request, or what it is about.
    grpc.StatusCode.INVALID_ARGUMENT: _ANSWER,
    grpc.StatusCode.NOT_FOUND: _ANSWER,
    grpc.StatusCode.ALREADY_EXISTS: _ANSWER,
    grpc.StatusCode.FAILED_PRECONDITION: _ANSWER,
    grpc.StatusCode.ABORTED: _ANSWER,
    grpc.StatusCode.OUT_OF_RANGE: _ANSWER,
}

# Bytes of UTF-8 that the text of a status may have. gRPC spells a byte with up to three, and a peer that takes 8 KiB of
# headers makes RESOURCE_EXHAUSTED of a status that goes beyond. Texts grow with each tier, as errors tell of errors.
MAX_DETAILS = 2048
# Bytes of one attempt's text within that of all.
MAX_ATTEMPT_DETAILS = 400


def meaning_of(code: grpc.StatusCode) -> StatusMeaning:
    """What a status says about the instance, the service, and other instances."""
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


class NotConnectedError(RefusedError):
    """There is no connection to the instance: the call was not sent."""


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
    """The collector refuses them for good; the text says why."""


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
            f" after {self.duration * 1000:.0f} ms: {shortened(_details(self.error), MAX_ATTEMPT_DETAILS)}"
        )


class RetryError(MeshError):
    """No attempt succeeded, or the error is not one to retry. `attempts` holds them all, in order."""

    def __init__(self, reason: str, attempts: Sequence[FailedAttempt]) -> None:
        self.attempts = tuple(attempts)
        self.code = status_of(self.attempts[-1].error)
        super().__init__(shortened(f"{reason}: " + "; ".join(map(str, self.attempts))))


def status_of(error: BaseException) -> grpc.StatusCode:
    """The gRPC status that stands for an error: its own code, DEADLINE_EXCEEDED for time-outs, else UNKNOWN."""
    if isinstance(error, MeshError):
        return error.code
    if isinstance(error, grpc.RpcError):
        # AioRpcError has both methods; other RpcErrors, which a user's code may raise, may have neither.
        code = error.code() if callable(getattr(error, "code", None)) else None
        return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN
    if isinstance(error, TimeoutError):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.UNKNOWN


def is_instance_failure(error: Exception) -> bool | None:
    """Whether an error counts against the instance that it came from; None: only if another one answers well."""
    return _MEANINGS[status_of(error)].against_instance


def is_system_failure(error: Exception) -> bool:
    """Whether an error counts against the service: UNAVAILABLE, INTERNAL, UNKNOWN and the like."""
    return _MEANINGS[status_of(error)].against_service


def is_retryable(error: Exception) -> bool:
    """Whether another instance may answer well."""
    return _MEANINGS[status_of(error)].elsewhere


def shortened(text: str, most: int = MAX_DETAILS) -> str:
    """Cut a text to a number of bytes of UTF-8; by default to `MAX_DETAILS`, for a status."""
    if len(text) * 4 <= most or len(raw := text.encode(errors="replace")) <= most:
        return text
    return raw[: most - 3].decode(errors="ignore") + "…"


def _details(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return error.details() or "no details"
    return str(error) or type(error).__name__
