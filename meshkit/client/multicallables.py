"""What a stub gets of a mesh channel for each of its methods: gRPC's interfaces, one for each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from meshkit.client.outgoing import Method

__all__ = ["StreamStream", "StreamUnary", "UnaryStream", "UnaryUnary"]


class _MultiCallable:
    """A method of a service; see the multi-callables of grpc.aio.

    Args:
        begin: begins a call: of a method, a request or an iterator of them, and options.
        method: what is called.
    """

    def __init__(self, begin: Callable[..., Any], method: Method) -> None:
        self._begin = begin
        self._method = method


class _OneRequest(_MultiCallable):
    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        options = {"metadata": metadata, "credentials": credentials, "compression": compression}
        return self._begin(self._method, request, timeout=timeout, wait_for_ready=wait_for_ready, options=options)


class _ManyRequests(_MultiCallable):
    def __call__(  # noqa: PLR0917 - the interface's
        self,
        request_iterator: Any = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        options = {"metadata": metadata, "credentials": credentials, "compression": compression}
        return self._begin(
            self._method, request_iterator, timeout=timeout, wait_for_ready=wait_for_ready, options=options
        )


class UnaryUnary(_OneRequest, grpc.aio.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    """One request, one answer."""


class UnaryStream(_OneRequest, grpc.aio.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    """One request, a stream of answers."""


class StreamUnary(_ManyRequests, grpc.aio.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    """A stream of requests, one answer."""


class StreamStream(_ManyRequests, grpc.aio.StreamStreamMultiCallable):  # type: ignore[type-arg]
    """Streams both ways."""
