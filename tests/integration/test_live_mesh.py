"""What the demo's page can do to the demo's mesh, and the HTTP by which it does."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from localmesh.components import FAST
from localmesh.controls import controls
from localmesh.http import UnreachableError, request, request_json
from localmesh.live_mesh import LiveMesh
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from meshkit.etcd import EtcdClient

PORTS = {"etcd": 2379, "Zipkin": 9411, "book-server": 50051, "admin": 8081}


async def test_replicas_come_and_go_and_etcd_and_zipkin_stop_and_start(run_dir: Path) -> None:
    mesh = LiveMesh(run_dir, lambda _, __: free_port(), ports=PORTS)
    mesh.plan(2, (*FAST, "--lease-ttl", "2"))
    actions = mesh.actions()

    async def do(name: str) -> str:
        return await actions[name]({})

    async def wait_registered(*addresses: str) -> None:
        async def probe() -> None:
            listing = await etcd.list("/services/book/")
            if (there := sorted(item.value for item in listing.items)) != sorted(addresses):
                raise NotYetError(str(there))

        await until(probe, within=20, what=f"{addresses} in etcd")

    one, other = (server.address for server in mesh.servers)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(mesh.zipkin.stop)
        stack.push_async_callback(mesh.etcd.stop)
        stack.push_async_callback(mesh.stop_servers)
        assert await do("etcd-start") == "etcd is up"
        etcd = await stack.enter_async_context(EtcdClient([mesh.etcd.address]))
        # Those that do not run start first.
        assert {await do("more"), await do("more")} == {f"{one} is ready", f"{other} is ready"}
        await do("more")
        third = mesh.servers[-1].address
        await wait_registered(one, other, third)
        assert await do("fewer") == f"{third} has left"
        await wait_registered(one, other)
        # One that has died starts again, at its address, also while etcd is away.
        await mesh.servers[0].kill()
        await wait_registered(other)
        assert await do("etcd-stop") == "etcd has stopped"
        with pytest.raises(ValueError, match="etcd is stopped already"):
            await do("etcd-stop")
        assert await do("more") == f"{one} starts, and registers once etcd is back"
        await do("etcd-start")
        with pytest.raises(ValueError, match="etcd runs already"):
            await do("etcd-start")
        await wait_registered(one, other)
        await do("fewer")
        await do("fewer")
        with pytest.raises(ValueError, match="no replica left"):
            await do("fewer")
        with pytest.raises(ValueError, match="Zipkin is stopped already"):
            await do("zipkin-stop")
        assert await do("zipkin-start") == "Zipkin is up"
        assert await do("zipkin-stop") == "Zipkin has stopped"


async def echo(body: Mapping[str, Any]) -> str:
    if "wrong" in body:
        raise ValueError("that is wrong")
    return f"did {body}"


async def test_actions_over_http_are_listed_and_done() -> None:
    async with controls({"more": echo, "fewer": echo}, free_port()) as url:
        assert await request_json(url) == ["fewer", "more"]
        assert await request_json(f"{url}more", {"a": 1}) == {"ok": True, "text": "did {'a': 1}"}
        status, answer = await request(f"{url}more", {"wrong": 1})
        assert (status, answer) == (400, b'{"ok": false, "text": "that is wrong"}')
        assert (await request(f"{url}more", [1]))[0] == 400
        assert (await request(f"{url}burn", {}))[0] == 404
    with pytest.raises(UnreachableError):
        await request(url)


@pytest.mark.parametrize(
    "head",
    ["host: {address}\r\ncontent-type: text/plain", "host: rebound.example\r\ncontent-type: application/json"],
    ids=["a form's type", "another host"],
)
async def test_what_a_page_of_another_origin_can_send_does_nothing(head: str) -> None:
    async with controls({"more": echo}, free_port()) as url:
        address = url.removeprefix("http://").rstrip("/")
        reader, writer = await asyncio.open_connection(*address.split(":"))
        writer.write(f"POST /more HTTP/1.1\r\n{head.format(address=address)}\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
    assert b" 403 " in answer.splitlines()[0]


async def test_an_action_under_way_is_cancelled_in_the_end() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def endless(_: Mapping[str, Any]) -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return ""

    async with controls({"more": endless}, free_port()) as url:
        waiting = asyncio.ensure_future(request(f"{url}more", {}, timeout=60))
        async with asyncio.timeout(20):
            await begun.wait()
    assert cancelled.is_set()
    status, answer = await waiting
    assert (status, answer) == (500, b'{"ok": false, "text": "the mesh is being stopped"}')
