"""What a unary handler gets around it: the caller's deadline, a middleware, and a status for every failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn
from weakref import WeakSet

import grpc
import structlog

from meshkit import caller, deadline
from meshkit.endpoint import Middleware
from meshkit.errors import MeshError, shortened, status_of
from meshkit.server.handlers import Context, Handler

__all__ = ["Behavior", "BriefContext", "fail", "guarded", "guarded_behaviors", "is_failure"]

log = structlog.stdlib.get_logger(__name__)

Behavior = Callable[[Any, Context], Awaitable[Any]]

guarded_behaviors: WeakSet[Behavior] = WeakSet()


def guarded(handler: Handler, method: str, middleware: Middleware[Any, Any] | None = None) -> Behavior:
    """Turn a unary handler into one from bytes to bytes, under the caller's deadline, with a status for every failure.

    The status is left in the context, where a span around it finds it:

    - that of `context.abort`, `context.set_code`, a MeshError or an AioRpcError as it is; DEADLINE_EXCEEDED for a
      TimeoutError; UNKNOWN for any other exception, whose text and traceback go to the log and not to the caller;
    - INTERNAL for a request that cannot be decoded and for an answer that cannot be encoded.

    grpc.aio alone answers UNKNOWN, with the text, to all of these but aborts, and leaves the caller of a handler that
    raises CancelledError (it has called a channel that was closed, say) without any answer.

    Args:
        handler: a grpc.RpcMethodHandler with `unary_unary`.
        method: full name, for the log.
        middleware: around the handler, where requests are decoded and answers not yet encoded; None: none.

    Returns:
        The function for a handler without (de)serializers; that of the handler itself where there is nothing to add.
    """
    behavior, decode, encode = handler.unary_unary, handler.request_deserializer, handler.response_serializer
    if middleware is None and behavior in guarded_behaviors:
        return behavior  # type: ignore[no-any-return]

    async def call(message: bytes, grpc_context: Context) -> bytes:
        context: Any = BriefContext(grpc_context)
        deadline.inherit(grpc_context.time_remaining())
        caller.inherit(grpc_context.peer, grpc_context.invocation_metadata)
        try:
            request = decode(message) if decode else message
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises, RecursionError included
            await context.abort(grpc.StatusCode.INTERNAL, f"malformed request: {type(error).__name__}")

        async def endpoint(request: Any) -> Any:
            return await behavior(request, context)

        try:
            answer = await (middleware(endpoint) if middleware else endpoint)(request)
        except BaseException as error:  # noqa: BLE001 - a handler is the user's: whatever it raises
            await fail(error, context, method)
        if is_failure(grpc_context.code()):
            return b""  # gRPC sends no answer with a status that is not OK: handlers then return what they like.
        try:
            encoded = _bytes(encode(answer) if encode else answer)
        except Exception as error:
            log.exception("answer not sent", method=method, reason="it cannot be encoded")
            await context.abort(grpc.StatusCode.INTERNAL, f"the answer cannot be encoded: {type(error).__name__}")
        return encoded

    guarded_behaviors.add(call)
    return call


async def fail(error: BaseException, context: Any, method: str) -> NoReturn:
    """End the call with the status of what its handler raised; an error that is not for the caller is raised again."""
    if isinstance(error, grpc.aio.AbortError | KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error
    task = asyncio.current_task()
    cancelled = isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling())
    if cancelled or context.done():
        raise error
    if is_failure(code := context.code()):
        # The handler has set it on purpose.
        await context.abort(code, context.details())
    if isinstance(error, grpc.aio.AioRpcError):
        details = error.details() or "no details"
    elif isinstance(error, MeshError | TimeoutError):
        details = str(error) or type(error).__name__
    else:
        log.error("handler failed", method=method, reason=type(error).__name__, exc_info=error)
        details = f"{type(error).__name__} in the handler"
    await context.abort(status_of(error), details)
    raise AssertionError("abort() always raises")


def is_failure(code: Any) -> bool:
    """Whether a context's code, an int or a grpc.StatusCode or None, is that of a failed call."""
    return bool(code) and code is not grpc.StatusCode.OK


def _bytes(answer: Any) -> bytes:
    if not isinstance(answer, bytes):
        raise TypeError(f"expected bytes of an encoded answer, got {type(answer).__name__}")
    return answer


class BriefContext:
    """A call's context that shortens the texts of statuses."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: tuple[Any, ...] = ()
    ) -> NoReturn:
        """End the call; this and the methods below are those of grpc.aio.ServicerContext."""
        await self._context.abort(code, shortened(details), trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:  # noqa: D102
        await self.abort(status.code, status.details, status.trailing_metadata)

    def set_details(self, details: str) -> None:  # noqa: D102
        self._context.set_details(shortened(details))
