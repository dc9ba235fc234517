"""Stand-ins for the neighbours of one rule at a time."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from meshkit.client import InstanceEndpoint


class FixedEndpoints:
    """An EndpointSource with a list that the test changes at will."""

    def __init__(self, **behaviours: Callable[[Any], Awaitable[Any]]) -> None:
        self.endpoints = [InstanceEndpoint(name, behaviour) for name, behaviour in behaviours.items()]


def rpc_error(code: grpc.StatusCode, details: str = "") -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)


def failing(code: grpc.StatusCode, details: str = "") -> Callable[[Any], Awaitable[Any]]:
    async def endpoint(_: Any) -> Any:
        raise rpc_error(code, details)

    return endpoint


def answering(answer: Any) -> Callable[[Any], Awaitable[Any]]:
    async def endpoint(_: Any) -> Any:
        return answer

    return endpoint
