"""The one shape of everything that can be called, and of everything that wraps a call.

An endpoint takes a request and returns a response; a middleware takes an endpoint and returns one. A breaker, a
rate limiter, a retry or a log line is then the same kind of thing, on the client and on the server (the shape is
go-kit's `endpoint.Middleware`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import reduce
from typing import TypeVar

__all__ = ["Endpoint", "Middleware", "Request", "Response", "chain"]

Request = TypeVar("Request")
Response = TypeVar("Response")

Endpoint = Callable[[Request], Awaitable[Response]]
Middleware = Callable[[Endpoint[Request, Response]], Endpoint[Request, Response]]


def chain(
    outermost: Middleware[Request, Response], *inner: Middleware[Request, Response]
) -> Middleware[Request, Response]:
    """Compose middlewares into one; a request passes them in the order in which they are written.

    `chain(a, b, c)(endpoint)` is `a(b(c(endpoint)))`.
    """

    def composed(endpoint: Endpoint[Request, Response]) -> Endpoint[Request, Response]:
        return reduce(lambda wrapped, middleware: middleware(wrapped), reversed((outermost, *inner)), endpoint)

    return composed
