"""A server that listens as the chart says, on 0.0.0.0, is reached at its address of either IP family."""

from pathlib import Path

import pytest

from localmesh.components import BookClient, BookServer, EtcdServer
from localmesh.ports import free_port
from tests.support.chart import render


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_a_replica_is_called_at_an_address_of_either_family(run_dir: Path, etcd: EtcdServer, host: str) -> None:
    listen = render().environment("server")["BOOK_SERVER_LISTEN"]
    assert listen is not None
    port = free_port()
    flags = ("--rate", "0", "--drain", "0s", "--listen", listen.replace("50051", str(port)))
    async with BookServer(run_dir, *flags, etcd=etcd.address, port=port, advertise=f"{host}:{port}"):
        client = BookClient(run_dir, "--calls", "5", "--interval", "0s", etcd=etcd.address)
        client.spawn()
        assert await client.wait() == 0
        assert {call["instance"] for call in client.calls} == {f"{host}:{port}"}
