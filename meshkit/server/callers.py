"""Who may call a server: callers whose certificate has one of certain names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from contextlib import aclosing
from functools import lru_cache
from typing import Any

import grpc
import structlog

from meshkit.server.handlers import Context, Handler, HandlerInterceptor, kind_of

__all__ = ["CallerInterceptor"]

log = structlog.stdlib.get_logger(__name__)

# A certificate's subject alternative names, as gRPC tells of them (grpc_security_constants.h). The common name does not
# count (RFC 9525 §2), nor do addresses: an authority that signs for workloads does not check those.
DNS_NAMES, URIS = "peer_dns", "peer_uri"
REPORTED_CALLERS = 100


class CallerInterceptor(HandlerInterceptor):
    """Refuses, with PERMISSION_DENIED, every call whose caller's certificate has none of the names.

    An authority says who a caller is, not what it may do. If it signs for others too, each of their certificates would
    open every server that trusts it. All methods of all services are checked, health and reflection included.
    A refused request is not decoded, and the log names each refused caller once.

    Args:
        names: DNS names, in any case, and URIs such as `spiffe://mesh/book-client`. They match exactly, no patterns.
    """

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self._dns_names = frozenset(name.lower().encode() for name in names)
        self._uris = frozenset(name.encode() for name in names)
        self._report = lru_cache(REPORTED_CALLERS)(_report)

    def wrap(self, handler: Handler, method: str) -> Handler:  # noqa: ARG002 - all methods alike
        """Check the caller before a handler of any kind runs."""
        kind = kind_of(handler)
        behavior, decode = getattr(handler, kind), handler.request_deserializer
        if handler.request_streaming or decode is None:
            return handler._replace(**{kind: self._checked(behavior, lambda request: request)})
        return handler._replace(request_deserializer=None, **{kind: self._checked(behavior, decode)})

    def _checked(self, behavior: Any, decode: Callable[[Any], Any]) -> Any:
        """Wrap a handler's function in one of the same kind (coroutine or generator): gRPC calls it accordingly."""
        if inspect.iscoroutinefunction(behavior):

            async def checked(request: Any, context: Context) -> Any:
                await self._check(context)
                return await behavior(decode(request), context)

            return checked
        if inspect.isasyncgenfunction(behavior):

            async def checked_stream(request: Any, context: Context) -> Any:
                await self._check(context)
                async with aclosing(behavior(decode(request), context)) as answers:
                    async for answer in answers:
                        yield answer

            return checked_stream
        raise TypeError(f"expected an async handler, got {behavior!r}: callers can only be checked before such a one")

    async def _check(self, context: Context) -> None:
        identity = context.auth_context()
        dns_names, uris = identity.get(DNS_NAMES, ()), identity.get(URIS, ())
        if self._uris.isdisjoint(uris) and self._dns_names.isdisjoint(name.lower() for name in dns_names):
            self._report(*dns_names, *uris)
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, "the caller's certificate has none of the names that may call"
            )


def _report(*names: bytes) -> None:
    shown = ",".join(name.decode(errors="replace") for name in names)
    log.warning("caller refused", names=shown[:200], reason="none of the names that may call")
