"""What a handler of a stream gets around it: as a unary one, the deadline, a middleware, a status for every failure."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import structlog

from meshkit import caller, deadline
from meshkit.endpoint import Middleware
from meshkit.errors import MeshError
from meshkit.server.handlers import Context, Handler, kind_of
from meshkit.server.unary import Behavior, BriefContext, fail, guarded, guarded_behaviors, is_failure

__all__ = ["guarded_handler"]

log = structlog.stdlib.get_logger(__name__)

Codec = Callable[[Any], Any] | None


class _CodecError(MeshError):
    """A message cannot be decoded, or not be encoded: its text is for the caller."""


def guarded_handler(handler: Handler, method: str, middleware: Middleware[Any, Any] | None = None) -> Behavior:
    """Make a handler of any kind a coroutine function over bytes, see `guarded`.

    The middleware is around the whole stream: a limiter takes one token at its start. Answers are written to the
    context, whether the handler yields or writes them.

    Args:
        handler: a grpc.RpcMethodHandler with an async function.
        method: full name, for the log.
        middleware: see `guarded`; of a stream of requests it sees the iterator.
    """
    kind = kind_of(handler)
    if kind == "unary_unary":
        return guarded(handler, method, middleware)
    behavior = getattr(handler, kind)
    if middleware is None and behavior in guarded_behaviors:
        return behavior  # type: ignore[no-any-return]
    yields = inspect.isasyncgenfunction(behavior)
    decode, encode = _strict(handler.request_deserializer, "malformed request"), _encoder(handler, method)

    async def call(request: Any, grpc_context: Context) -> bytes | None:
        context: Any = _StreamContext(grpc_context, decode, encode)
        deadline.inherit(grpc_context.time_remaining())
        caller.inherit(grpc_context.peer, grpc_context.invocation_metadata)

        async def endpoint(request: Any) -> Any:
            if not yields:
                return await behavior(request, context)
            async with aclosing(behavior(request, context)) as answers:
                async for answer in answers:
                    await context.write(answer)
            return None

        try:
            request = _decoded(request, decode) if handler.request_streaming else decode(request)
            answer = await (middleware(endpoint) if middleware else endpoint)(request)
            if handler.response_streaming:
                return None
            return b"" if is_failure(grpc_context.code()) else encode(answer)
        except BaseException as error:  # noqa: BLE001 - a handler is the user's: whatever it raises
            await fail(error, context, method)

    guarded_behaviors.add(call)
    return call


async def _decoded(requests: AsyncIterator[bytes], decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield decode(request)


def _strict(codec: Codec, failure: str) -> Callable[[Any], Any]:
    def strict(message: Any) -> Any:
        try:
            return codec(message) if codec else message
        except Exception as error:
            raise _CodecError(f"{failure}: {type(error).__name__}") from error

    return strict


def _encoder(handler: Handler, method: str) -> Callable[[Any], bytes]:
    encode = _strict(handler.response_serializer, "the answer cannot be encoded")

    def encoder(answer: Any) -> bytes:
        try:
            encoded = encode(answer)
        except _CodecError:
            log.exception("answer not sent", method=method, reason="it cannot be encoded")
            raise
        if not isinstance(encoded, bytes):
            log.error("answer not sent", method=method, reason=f"expected a message, got {type(encoded).__name__}")
            raise _CodecError(f"the answer cannot be encoded: {type(encoded).__name__}")
        return encoded

    return encoder


class _StreamContext(BriefContext):
    """A call's context whose messages are decoded and encoded here."""

    __slots__ = ("_decode", "_encode")

    def __init__(self, context: Context, decode: Callable[[Any], Any], encode: Callable[[Any], bytes]) -> None:
        super().__init__(context)
        self._decode = decode
        self._encode = encode

    async def read(self) -> Any:
        message: Any = await self._context.read()
        return message if message is grpc.aio.EOF else self._decode(message)

    async def write(self, answer: Any) -> None:
        await self._context.write(self._encode(answer))
