"""Real etcd, real Zipkin, real programs, on free ports; each test has an etcd of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import grpc
import pytest

from localmesh.components import Etcd, Zipkin
from meshkit.etcd import EtcdClient


@pytest.fixture(scope="session")
def zipkin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zipkin]:
    server = Zipkin(tmp_path_factory.mktemp("zipkin"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
async def etcd(run_dir: Path) -> AsyncIterator[Etcd]:
    async with Etcd(run_dir) as server:
        yield server


@pytest.fixture
async def etcd_client(etcd: Etcd) -> AsyncIterator[EtcdClient]:
    async with EtcdClient([etcd.address]) as client:
        yield client


@pytest.fixture
def unary() -> type["Unary"]:
    return Unary


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
