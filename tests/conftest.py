"""Real etcd and real Zipkin on free ports, for the tests that ask for them; each test has an etcd of its own."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from localmesh.components import EtcdServer, ZipkinServer
from meshkit.etcd import EtcdClient

# How long an example takes depends on what else the machine does: no reason to fail.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Under nohup, or in the background of a script, the tests and what they start would ignore these signals.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def zipkin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipkinServer]:
    server = ZipkinServer(tmp_path_factory.mktemp("zipkin"))
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
async def etcd(run_dir: Path) -> AsyncIterator[EtcdServer]:
    async with EtcdServer(run_dir) as server:
        yield server


@pytest.fixture
async def etcd_client(etcd: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient([etcd.address]) as client:
        yield client
