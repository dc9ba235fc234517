"""A server that answers in a replica's place, and wrongly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc

__all__ = ["AILMENTS", "SickServer"]

Context = grpc.aio.ServicerContext[Any, Any]
Answer = Callable[[bytes, Context], Awaitable[bytes]]


def _status(code: grpc.StatusCode) -> Answer:
    async def answer(_: bytes, context: Context) -> bytes:
        await context.abort(code, "sick")
        raise AssertionError("unreachable: abort raises")

    return answer


def _message(content: bytes) -> Answer:
    async def answer(_: bytes, __: Context) -> bytes:
        return content

    return answer


# What can be wrong with an answer: its status, its content, its size.
AILMENTS: dict[str, Answer] = {
    **{
        code.name: _status(code)
        for code in (
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNIMPLEMENTED,
            grpc.StatusCode.UNAUTHENTICATED,
            grpc.StatusCode.DATA_LOSS,
        )
    },
    "garbage": _message(b"\xff" * 40),
    "4 MiB": _message(b"\x0a\xff\xff\xff\x01" + bytes(4 * 1024 * 1024)),
}


class SickServer(grpc.GenericRpcHandler):
    """Answers all unary methods with one ailment, on a free port of 127.0.0.1; `address` once it is entered.

    Args:
        ailment: a key of `AILMENTS`.
    """

    def __init__(self, ailment: str) -> None:
        self._handler: Any = grpc.unary_unary_rpc_method_handler(AILMENTS[ailment])
        self._server = grpc.aio.server(handlers=(self,), options=(("grpc.so_reuseport", 0),))
        self.address = ""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ARG002 - the same for all
        """Return the same wrong handler for every method (grpc.GenericRpcHandler)."""
        return self._handler

    async def __aenter__(self) -> Self:
        """Serve."""
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self._server.stop(None)
