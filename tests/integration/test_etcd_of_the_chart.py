"""etcd with the chart's own command line and certificates, on this machine: who gets in, and where."""

import asyncio
import base64
import os
import re
import ssl
import subprocess
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Self

import pytest

from localmesh.components import TOOLS
from localmesh.http import UnreachableError, request
from localmesh.ports import free_port
from localmesh.process import Process
from localmesh.waiting import NotYetError
from meshkit.errors import EtcdError
from meshkit.etcd import EtcdClient
from meshkit.tls.pem import PemFiles
from tests.support.chart import Rendered, render

HOST = "demo-bookmesh-etcd-0.demo-bookmesh-etcd-peers"
ALL_KEYS = {"key": "AA==", "range_end": "AA=="}


class ChartsEtcd:
    """The chart's etcd, with addresses and folders moved to where a test may have them.

    Args:
        rendered: The release that has it.
        run_dir: Where its data, its log and the certificates go.
        certificates: The release that has the certificates; the same by default.
    """

    def __init__(self, rendered: Rendered, run_dir: Path, certificates: Rendered | None = None) -> None:
        self._run_dir = run_dir
        self._ports = {number: free_port() for number in (2379, 2380, 2381, 2382)}
        for secret in (certificates or rendered).of_kind("Secret"):
            folder = run_dir / secret["metadata"]["labels"]["app.kubernetes.io/component"]
            folder.mkdir()
            for name, content in secret["data"].items():
                (folder / name).write_bytes(base64.b64decode(content))
        _, *flags = map(self._moved, rendered.container("etcd")["command"])
        self._process = Process("etcd", [TOOLS / "bin/etcd", *flags], run_dir=run_dir)
        self._etcdctl = {
            name: self._moved(value)
            for name, value in rendered.environment("etcd").items()
            if name.startswith("ETCDCTL_") and value is not None
        }
        self.address = f"localhost:{self._ports[2379]}"
        self.peers = f"localhost:{self._ports[2380]}"

    def _moved(self, text: str) -> str:
        # All in one pass: 2379's new port may begin with 2382.
        text = re.sub(r":(23\d\d)\b", lambda found: f":{self._ports[int(found[1])]}", text)
        text = text.replace("$(POD_NAME)", HOST.partition(".")[0]).replace(HOST, "localhost")
        return text.replace("/tls/", f"{self._run_dir}/etcd/").replace("/var/lib/etcd", str(self._run_dir))

    def files(self, component: str) -> PemFiles:
        folder = self._run_dir / component
        return PemFiles(folder / "ca.crt", folder / "tls.crt", folder / "tls.key")

    async def probe(self, path: str, body: object = None, host: str = "127.0.0.1") -> int:
        """The status of an answer on the port that Kubernetes' probes ask."""
        return (await request(f"http://{host}:{self._ports[2381]}/{path}", body, timeout=5))[0]

    async def etcdctl(self, *args: str) -> str:
        """What it prints in etcd's container."""
        command, env = [str(TOOLS / "bin/etcdctl"), *args], os.environ | self._etcdctl
        run = partial(subprocess.run, command, env=env, capture_output=True, text=True, timeout=120, check=True)
        done: subprocess.CompletedProcess[str] = await asyncio.to_thread(run)
        return done.stdout

    async def __aenter__(self) -> Self:
        await self._process.start(self._ready, within=30)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.stop()

    async def _ready(self) -> None:
        try:
            status = await self.probe("readyz")
        except UnreachableError as error:
            raise NotYetError(str(error)) from error
        if status != 200:
            raise NotYetError(f"status {status}")


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
async def test_the_port_for_probes_shows_health_and_metrics_and_no_key(run_dir: Path, *, tls: bool) -> None:
    async with ChartsEtcd(render({"tls.enabled": tls}), run_dir) as etcd:
        assert [await etcd.probe(path) for path in ("livez", "readyz", "metrics")] == [200, 200, 200]
        assert await etcd.probe("v3/kv/range", ALL_KEYS) == 404
        assert [await etcd.probe(path) for path in ("version", "debug/vars")] == [404, 404]


async def test_with_tls_only_those_with_a_certificate_of_the_release_get_in(run_dir: Path) -> None:
    async with ChartsEtcd(render({"tls.enabled": True}), run_dir) as etcd:
        for component in ("server", "client"):
            async with EtcdClient([etcd.address], tls=etcd.files(component)) as known:
                await known.put(f"/{component}", "here")
        for files in (None, PemFiles(etcd.files("client").ca)):
            async with EtcdClient([etcd.address], tls=files) as stranger:
                with pytest.raises(EtcdError):
                    await stranger.list("/")
        assert (await etcd.etcdctl("get", "--prefix", "/")).split() == ["/client", "here", "/server", "here"]


async def test_a_certificate_of_the_same_authority_with_another_name_gets_in_nowhere(run_dir: Path) -> None:
    ours = render({"tls.enabled": True})
    # To this etcd the client's certificate is that of another workload.
    other = render({"tls.enabled": True, "tls.clientName": "reader"})
    async with ChartsEtcd(other, run_dir, certificates=ours) as etcd:
        async with EtcdClient([etcd.address], tls=etcd.files("server")) as known:
            await known.put("/server", "here")
        async with EtcdClient([etcd.address], tls=etcd.files("client")) as stranger:
            with pytest.raises(EtcdError):
                await stranger.list("/")


@pytest.mark.parametrize(("component", "taken"), [("etcd", True), ("server", False), ("client", False)])
async def test_members_take_each_other_and_nobody_else(run_dir: Path, component: str, *, taken: bool) -> None:
    async with ChartsEtcd(render({"tls.enabled": True}), run_dir) as etcd:
        status = await asyncio.to_thread(_members_asked, etcd.peers, etcd.files(component))
    assert (status == 200) is taken, status


def _members_asked(address: str, files: PemFiles) -> int | str:
    """The status of a member's answer to another, or why there is none."""
    context = ssl.create_default_context(cafile=files.ca)
    assert files.cert is not None
    context.load_cert_chain(files.cert, files.key)
    connection = HTTPSConnection(address, timeout=10, context=context)
    try:
        connection.request("GET", "/members")
        return connection.getresponse().status
    except OSError as error:
        return str(error)
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
async def test_it_listens_for_both_ip_families(run_dir: Path, host: str) -> None:
    async with ChartsEtcd(render(), run_dir) as etcd:
        assert await etcd.probe("readyz", host=host) == 200
        async with EtcdClient([etcd.address.replace("localhost", host)]) as client:
            await client.put("/family", host)
