"""Calls as any client could make them, without the mesh."""

from typing import Any, Self

import grpc


class Unary:
    """Raw calls on one channel: what is sent is what the test says, byte for byte."""

    def __init__(self, address: str) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
        self._channel = grpc.aio.insecure_channel(address, options=options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def call(
        self, method: str, request: bytes = b"", *, metadata: dict[str, str] | None = None, timeout: float = 10.0
    ) -> bytes:
        call: Any = self._channel.unary_unary(method)
        answer: bytes = await call(request, metadata=tuple((metadata or {}).items()), timeout=timeout)
        return answer

    async def status(
        self, method: str, request: bytes = b"", *, metadata: dict[str, str] | None = None, timeout: float = 10.0
    ) -> grpc.StatusCode:
        try:
            await self.call(method, request, metadata=metadata, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK
