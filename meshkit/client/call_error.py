"""The error of a call on a mesh channel: what gRPC's errors have, and every attempt."""

from __future__ import annotations

from typing import Any

import grpc

from meshkit.errors import FailedAttempt, RetryError, status_of

__all__ = ["CallError"]


class CallError(grpc.aio.AioRpcError):
    """A call on a mesh channel failed; a `grpc.RpcError` as any other.

    Status, details and metadata are those of the last attempt, to the letter, so that what is packed into them
    (grpc-status) can be read; the text of the error names every attempt.

    Args:
        code: the status.
        initial_metadata: of the last attempt; empty where none reached a server.
        trailing_metadata: likewise.
        details: the text of the status.
        debug_error_string: gRPC's, where an attempt failed in gRPC.
        attempts: all that were made, in order; none where the call was refused before the first.
        text: all of it in one line. Default: status and details.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        initial_metadata: grpc.aio.Metadata | None = None,
        trailing_metadata: grpc.aio.Metadata | None = None,
        details: str | None = None,
        debug_error_string: str | None = None,
        *,
        attempts: tuple[FailedAttempt, ...] = (),
        text: str | None = None,
    ) -> None:
        nothing = grpc.aio.Metadata()
        super().__init__(code, initial_metadata or nothing, trailing_metadata or nothing, details, debug_error_string)
        self.attempts = attempts
        self._text = text or f"{code.name}: {details}"

    @classmethod
    def of(cls, error: Exception) -> CallError:
        """The same as an error that was raised on a call's way through the mesh."""
        if isinstance(error, cls):
            return error
        attempts = error.attempts if isinstance(error, RetryError) else ()
        last = attempts[-1].error if attempts else error
        # On a call object these are coroutines.
        status: Any = last if isinstance(last, grpc.aio.AioRpcError) else None
        if status is None:
            details = str(last) or ("deadline exceeded" if isinstance(last, TimeoutError) else type(last).__name__)
            made = cls(status_of(last), details=details, attempts=attempts, text=str(error) or None)
        else:
            made = cls(
                status.code(),
                status.initial_metadata(),
                status.trailing_metadata(),
                status.details(),
                status.debug_error_string(),
                attempts=attempts,
                text=str(error),
            )
        made.__cause__ = error
        return made

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"CallError({self._text})"
