"""The admin port of the real programs, beside a real etcd and a real Zipkin."""

import asyncio
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import pytest

import meshkit
from localmesh.components import BookClient, BookServer, EtcdServer, ZipkinServer
from localmesh.http import UnreachableError, request
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from tests.support.admin_port import AdminPort

pytestmark = pytest.mark.asyncio
QUICK = ("--rate", "0", "--max-list-latency", "5ms", "--drain", "0.2s")


class Mesh:
    """Two replicas and a client that calls for ever, with admin ports."""

    def __init__(self, run_dir: Path, etcd: EtcdServer, zipkin: str = "off", *flags: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.replicas = [BookServer(run_dir, *QUICK, "--faults", etcd=etcd.address, zipkin=zipkin) for _ in range(2)]
        self.client = BookClient(
            run_dir,
            *("--calls", "0", "--interval", "20ms", "--timeout", "5s", "--admin", self.address, *flags),
            etcd=etcd.address,
            zipkin=zipkin,
        )
        self.admin = AdminPort(self.client, self.address)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def begun(mesh: Mesh) -> None:
    async def probe() -> None:
        try:
            await mesh.admin.get("/healthz")
        except UnreachableError as error:
            raise NotYetError(str(error)) from error

    await until(probe, within=30, what="the admin port is open")


async def test_a_client_is_ready_once_an_instance_is_and_no_longer_than_that(
    run_dir: Path, etcd: EtcdServer, stack: AsyncExitStack
) -> None:
    mesh = Mesh(run_dir, etcd)
    stack.push_async_callback(mesh.client.stop)
    mesh.client.spawn()
    await begun(mesh)
    assert "known" in await mesh.admin.wait_for("/readyz", 503)
    async with mesh.replicas[0]:
        assert await mesh.admin.wait_for("/readyz", 200) == "ready\n"
        assert await mesh.admin.get("/healthz") == (200, "ok\n")
    assert "no instance of etcd:///services/book/ is ready" in await mesh.admin.wait_for("/readyz", 503)


async def test_a_server_is_ready_once_it_is_registered(run_dir: Path, etcd: EtcdServer) -> None:
    address = f"127.0.0.1:{free_port()}"
    server = BookServer(run_dir, *QUICK, "--admin", address, etcd=etcd.address)
    admin = AdminPort(server, address)
    async with server:
        await admin.wait_for("/readyz", 200)
        status, text = await admin.get("/metrics")
        assert status == 200
        assert "meshkit_registered 1.0" in text


async def test_what_happens_is_told_with_the_trace_of_an_ejection(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer, stack: AsyncExitStack
) -> None:
    mesh = Mesh(run_dir, etcd, zipkin.collector, "--admin-actions")
    first, second = mesh.replicas
    await stack.enter_async_context(first)
    stack.push_async_callback(mesh.client.stop)
    mesh.client.spawn()
    await begun(mesh)
    await mesh.admin.wait_for("/readyz", 200)
    events = await stack.enter_async_context(mesh.admin.events())
    hello = await events.wait("hello")
    assert (hello["program"], hello["service"]) == ("book-client", "etcd:///services/book/")
    assert hello["zipkin_ui"] == f"{zipkin.url}/zipkin"
    assert {"sicken", "slow", "hang", "garble", "kill", "heal"} <= set(hello["actions"])
    await stack.enter_async_context(second)
    await events.wait("mark", lambda mark: (mark["kind"], mark["instance"]) == ("came", second.address))
    await events.wait(
        "state",
        lambda state: (
            [each["state"] for each in state["instances"]] == ["ready", "ready"]
            and all(each["calls"] and each["p99"] for each in state["instances"])
        ),
    )
    status, answer = await mesh.admin.post("/actions/sicken", {"instance": second.address})
    assert (status, answer["ok"]) == (200, True), answer
    assert (await events.wait("mark"))["kind"] == "action"
    ejected = await events.wait("mark", lambda mark: mark["kind"] == "ejected")
    assert ejected["instance"] == second.address
    again = (
        await events.wait("call", lambda call: call["trace"] == ejected["trace"]) if ejected["trace"] is None else None
    )
    assert again is None
    status, _ = await mesh.admin.get(f"/trace/{ejected['trace']}")
    assert status in {200, 404}
    await mesh.admin.wait_for(f"/trace/{ejected['trace']}", 200)
    status, answer = await mesh.admin.post("/actions/heal", {"instance": second.address})
    assert (status, answer["ok"]) == (200, True), answer
    back = await events.wait("mark", lambda mark: mark["kind"] == "back")
    assert back["instance"] == second.address
    await second.kill()
    await events.wait("mark", lambda mark: mark["kind"] == "went", within=60)
    await etcd.stop()
    await events.wait("mark", lambda mark: mark["kind"] == "etcd-away", within=60)
    await etcd.start()
    await events.wait("mark", lambda mark: mark["kind"] == "etcd-back", within=60)
    assert [call for call in mesh.client.calls if call["outcome"] != "ok"] == []


async def test_actions_are_refused_without_the_flag_and_to_other_sites(
    run_dir: Path, etcd: EtcdServer, stack: AsyncExitStack
) -> None:
    mesh = Mesh(run_dir, etcd)
    stack.push_async_callback(mesh.client.stop)
    mesh.client.spawn()
    await begun(mesh)
    status, answer = await mesh.admin.post("/actions/kill", {})
    assert (status, answer["ok"]) == (404, False)
    assert "--admin-actions" in answer["text"]
    host, _, port = mesh.address.rpartition(":")
    for headers, expected in (
        ("content-type: application/json\r\norigin: http://elsewhere", b"403"),
        ("content-type: text/plain", b"415"),
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /actions/kill HTTP/1.1\r\nhost: {mesh.address}\r\n{headers}\r\ncontent-length: 2\r\n"
        writer.write(f"{head}\r\n{{}}".encode())
        assert (await reader.readline()).split()[1] == expected
        writer.close()


async def test_open_pages_do_not_keep_it_from_ending(run_dir: Path, etcd: EtcdServer, stack: AsyncExitStack) -> None:
    mesh = Mesh(run_dir, etcd)
    await stack.enter_async_context(mesh.replicas[0])
    mesh.client.spawn()
    stack.push_async_callback(mesh.client.stop)
    await begun(mesh)
    await mesh.admin.wait_for("/readyz", 200)
    streams = [await stack.enter_async_context(mesh.admin.events()) for _ in range(5)]
    for stream in streams:
        await stream.wait("hello")
    # One that never reads.
    host, _, port = mesh.address.rpartition(":")
    _, silent = await asyncio.open_connection(host, int(port))
    silent.write(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
    begun_at = monotonic()
    mesh.client.send(signal.SIGTERM)
    assert await mesh.client.wait() == 0
    # Nothing of it waits for a reader: what would, waits for ever.
    assert monotonic() - begun_at < 20
    for stream in streams:
        with pytest.raises((EOFError, ConnectionError)):
            await stream.wait("none of this kind")
    silent.close()


async def test_a_port_that_is_taken_is_one_line(run_dir: Path, etcd: EtcdServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        client = BookClient(run_dir, "--admin", address, etcd=etcd.address)
        client.spawn()
        assert await client.wait() == 1
    assert re.search(rf"^book-client: cannot listen on {address}: .*in use", client.output(), re.MULTILINE)


async def test_any_program_gets_it_by_one_word(etcd: EtcdServer) -> None:
    address = f"127.0.0.1:{free_port()}"
    async with meshkit.Mesh("shop", etcd=[etcd.address], admin=address) as mesh, mesh.channel("greeter"):
        status, text = await request(f"http://{address}/readyz")
        assert (status, text) == (503, b"no instance of etcd:///services/greeter/ is ready, 0 known\n")
        status, text = await request(f"http://{address}/metrics")
        assert b'meshkit_instances{grpc_target="etcd:///services/greeter/",state="ready"} 0.0' in text
    with pytest.raises(UnreachableError):
        await request(f"http://{address}/healthz")
