"""Faults on demand, on real replicas: what callers, spans, the limiter and the mesh see of each, and how it ends."""

import asyncio
import re
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from book_client.faults import FaultError, asked, clearing, exiting, setting, showing
from book_pb2 import BookInfo
from faults_pb2 import Fault
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from localmesh.components import FAST, BookClient, BookServer, EtcdServer, ZipkinServer
from meshkit.etcd import EtcdClient
from tests.support.unary import Unary

CODES = grpc.StatusCode
INFO, REQUEST = "/BookService/GetBookInfo", b"\x08\x07"
FAULTS = "bookmesh.faults.v1.Faults"
SERVER = (*FAST, "--faults")
SICK = Fault(percent=100, status=14)


async def ask(server: BookServer, fault: Fault | None) -> None:
    await asked(server.address, clearing() if fault is None else setting(fault))


async def assert_only_book_service_is_hit(server: BookServer) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert FAULTS in await services(server)


async def services(server: BookServer) -> list[str]:
    """What reflection lists, as `grpcurl list` shows it."""
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    async with grpc.aio.insecure_channel(server.address) as channel:
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        async for answer in reflect(iter([question]), timeout=5):
            return [service.name for service in answer.list_services_response.service]
    raise AssertionError("no answer")


async def traced_status(
    server: BookServer, zipkin: ZipkinServer, timeout: float
) -> tuple[grpc.StatusCode, dict[str, str]]:
    """What a caller hears, and the tags of the SERVER span of its call."""
    trace_id = secrets.token_hex(16)
    headers = {"x-b3-traceid": trace_id, "x-b3-spanid": trace_id[:16], "x-b3-sampled": "1"}
    async with Unary(server.address) as client:
        code = await client.status(INFO, REQUEST, metadata=headers, timeout=timeout)
    (span,) = await zipkin.wait_trace(trace_id, 1)
    assert span["kind"] == "SERVER"
    return code, span["tags"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (SICK, CODES.UNAVAILABLE),
        (Fault(percent=100, status=5), CODES.NOT_FOUND),
        (Fault(percent=100, status=13, delay_seconds=0.1), CODES.INTERNAL),
        (Fault(percent=100, hang=True), CODES.DEADLINE_EXCEEDED),
        (Fault(percent=100, delay_seconds=60), CODES.DEADLINE_EXCEEDED),
    ],
    ids=lambda value: value.name if isinstance(value, CODES) else "",
)
async def test_the_caller_and_the_span_have_the_status_health_and_reflection_are_well_and_healing_heals(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer, fault: Fault, expected: grpc.StatusCode
) -> None:
    async with BookServer(run_dir, *SERVER, etcd=etcd.address, zipkin=zipkin.collector) as server:
        await ask(server, fault)
        code, tags = await traced_status(server, zipkin, timeout=0.5 if expected is CODES.DEADLINE_EXCEEDED else 20)
        assert code is expected
        # The caller's word that it waits no longer may arrive before the server's own clock says so.
        either = {expected, CODES.CANCELLED} if expected is CODES.DEADLINE_EXCEEDED else {expected}
        assert tags["rpc.grpc.status_code"] in {str(one.value[0]) for one in either}
        await assert_only_book_service_is_hit(server)
        assert await asked(server.address, showing()) == fault
        await ask(server, None)
        code, tags = await traced_status(server, zipkin, timeout=20)
        assert (code, tags["rpc.grpc.status_code"]) == (CODES.OK, "0")
        assert [entry["event"] for entry in server.events() if "fault" in entry["event"]] == [
            "faults on demand are on",
            "fault set",
            "fault cleared",
        ]


async def test_a_slow_instance_answers_well_and_late(run_dir: Path, etcd: EtcdServer) -> None:
    async with BookServer(run_dir, *SERVER, etcd=etcd.address) as server, Unary(server.address) as client:
        await ask(server, Fault(percent=100, delay_seconds=0.3))
        began = time.monotonic()
        assert BookInfo.FromString(await client.call(INFO, REQUEST)).book_id == 7
        assert time.monotonic() - began >= 0.3


async def test_garbage_leaves_the_server_as_bytes_that_cannot_be_decoded(run_dir: Path, etcd: EtcdServer) -> None:
    async with BookServer(run_dir, *SERVER, etcd=etcd.address) as server, Unary(server.address) as client:
        await ask(server, Fault(percent=100, garbage=True))
        answer = await client.call(INFO, REQUEST)
        with pytest.raises(DecodeError):
            BookInfo.FromString(answer)


async def test_the_limiter_takes_a_call_that_suffers_a_fault_for_a_call(run_dir: Path, etcd: EtcdServer) -> None:
    flags = ("--rate", "0.001", "--burst", "1", "--faults")
    async with BookServer(run_dir, *FAST, *flags, etcd=etcd.address) as server, Unary(server.address) as client:
        await ask(server, SICK)
        assert await client.status(INFO, REQUEST, timeout=20) is CODES.UNAVAILABLE
        assert await client.status(INFO, REQUEST, timeout=5) is CODES.RESOURCE_EXHAUSTED


async def test_calls_that_hang_are_let_go_by_healing(run_dir: Path, etcd: EtcdServer) -> None:
    async with BookServer(run_dir, *SERVER, etcd=etcd.address) as server, hanging(server) as call:
        await ask(server, None)
        assert BookInfo.FromString(await call).book_id == 7


async def test_a_call_that_hangs_ends_when_the_server_leaves_which_it_does_as_fast_as_ever(
    run_dir: Path, etcd: EtcdServer
) -> None:
    async with BookServer(run_dir, *SERVER, "--grace", "500s", etcd=etcd.address) as server, hanging(server) as call:
        server.send(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is CODES.UNAVAILABLE
        assert await server.wait() == 0


@asynccontextmanager
async def hanging(server: BookServer) -> AsyncIterator[Any]:
    """A call without a deadline that the server lets hang."""
    await ask(server, Fault(percent=100, hang=True))
    async with grpc.aio.insecure_channel(server.address) as channel:
        make_call: Any = channel.unary_unary(INFO)
        call = make_call(REQUEST, timeout=60)
        # One that comes later, and is late too: so the first has arrived.
        late = make_call(REQUEST, timeout=0.5)
        assert await late.code() is CODES.DEADLINE_EXCEEDED
        assert not call.done()
        yield call


async def test_an_exit_is_a_crash_whose_registration_is_left_to_its_lease(
    run_dir: Path, etcd: EtcdServer, etcd_client: EtcdClient
) -> None:
    async with BookServer(run_dir, *SERVER, etcd=etcd.address) as server:
        await asked(server.address, exiting(7))
        assert await server.wait() == 7
        assert server.events("exit on demand")[0]["code"] == 7
        assert not server.events("leaving")
        assert [item.value for item in (await etcd_client.list("/services/book/")).items] == [server.address]


async def test_there_is_no_such_service_by_default(run_dir: Path, etcd: EtcdServer) -> None:
    async with BookServer(run_dir, *FAST, etcd=etcd.address) as server:
        for request in (setting(SICK), showing(), clearing(), exiting(1)):
            with pytest.raises(FaultError, match="start book-server with --faults") as caught:
                await asked(server.address, request)
            assert caught.value.code is CODES.UNIMPLEMENTED
        assert FAULTS not in await services(server)
        assert not server.events("faults on demand are on")


async def test_a_fault_out_of_bounds_is_refused_and_the_one_before_stays(run_dir: Path, etcd: EtcdServer) -> None:
    async with BookServer(run_dir, *SERVER, etcd=etcd.address) as server:
        await ask(server, SICK)
        for request in (
            *(
                setting(fault)
                for fault in (Fault(percent=101, status=14), Fault(percent=1, status=17), Fault(percent=1))
            ),
            *(exiting(code) for code in (-1, 256)),
        ):
            with pytest.raises(FaultError, match="expected") as caught:
                await asked(server.address, request)
            assert caught.value.code is CODES.INVALID_ARGUMENT
        async with Unary(server.address) as client:
            assert await client.status(f"/{FAULTS}/Set", b"\x0a\xff") is CODES.INTERNAL
        assert await asked(server.address, showing()) == SICK


async def test_a_sickened_replica_is_ejected_within_5_s_no_call_fails_and_it_is_back_within_10_s_of_healing(
    run_dir: Path, etcd: EtcdServer
) -> None:
    servers = [BookServer(run_dir, *SERVER, etcd=etcd.address) for _ in range(3)]
    await asyncio.gather(*(server.start_ready() for server in servers))
    sick, client = servers[1], BookClient(run_dir, "--calls", "0", "--interval", "20ms", etcd=etcd.address)
    try:
        client.spawn()
        await client.wait_event("call", count=20)
        for fault in (SICK, Fault(percent=100, garbage=True), Fault(percent=50, status=13)):
            count = len(client.events("instance ejected")) + 1
            await ask(sick, fault)
            ejected = await client.wait_event("instance ejected", within=5, count=count)
            assert ejected["instance"] == sick.address
            await ask(sick, None)
            await client.wait_event("instance back", within=10, count=len(client.events("instance ejected")))
        assert await client.stop() == 0, client.last_words()
        assert client.summary["failures"] == 0
    finally:
        await client.stop()
        await asyncio.gather(*(server.stop() for server in servers))


async def command(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of book-client."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("book-client")),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


async def test_by_command_all_instances_or_one_of_them_are_told(run_dir: Path, etcd: EtcdServer) -> None:
    where = ("--etcd", etcd.address, "faults")
    assert await command(*where, "show") == (1, "", "no instance is registered under /services/book/\n")
    async with (
        BookServer(run_dir, *SERVER, etcd=etcd.address) as one,
        BookServer(run_dir, *SERVER, etcd=etcd.address) as other,
        BookServer(run_dir, *FAST, etcd=etcd.address) as unable,
    ):
        code, out, error = await command(*where, "set", "--status", "INTERNAL", "--percent", "50", "--delay", "100ms")
        told = "answers 50% of its calls with INTERNAL, 0.1 s late"
        assert code == 1
        assert out.splitlines() == sorted(f"{server.address}: {told}" for server in (one, other))
        assert error == f"{unable.address}: it takes no faults: start book-server with --faults\n"
        assert await command("faults", "clear", "--instance", one.address) == (0, f"{one.address}: no fault\n", "")
        both = ("--instance", one.address, "--instance", other.address)
        code, out, _ = await command("faults", "show", *both)
        assert (code, sorted(out.splitlines())) == (
            0,
            sorted([f"{one.address}: no fault", f"{other.address}: {told}"]),
        )
        assert await command("faults", "exit", "--instance", one.address, "--code", "3") == (
            0,
            f"{one.address}: ends\n",
            "",
        )
        assert await one.wait() == 3
        assert other.running


@pytest.mark.parametrize(
    "arguments",
    [
        ("set",),
        ("set", "--hang", "--garbage"),
        ("set", "--status", "OK"),
        ("set", "--hang", "--percent", "101"),
        ("set", "--delay", "-1s"),
        ("exit", "--code", "256"),
        ("show", "--instance", "nobody"),
        ("burn",),
    ],
    ids=" ".join,
)
async def test_a_command_that_cannot_be_used_is_one_line_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    code, out, error = await command("faults", *arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"book-client faults( \w+)?: .+\n", error)


async def test_with_client_names_only_those_clients_may_set_faults(run_dir: Path, etcd: EtcdServer) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(run_dir / "ca.pem")
    for name in ("book-server", "book-client", "stranger"):
        certificate = ca.issue_cert(name)
        certificate.private_key_pem.write_to_path(run_dir / f"{name}.key")
        certificate.cert_chain_pems[0].write_to_path(run_dir / f"{name}.pem")

    def own(name: str) -> tuple[str, ...]:
        return "--tls-cert", str(run_dir / f"{name}.pem"), "--tls-key", str(run_dir / f"{name}.key")

    trust = str(run_dir / "ca.pem")
    flags = (*own("book-server"), "--tls-client-ca", trust, "--tls-client-names", "book-client")
    async with BookServer(run_dir, *SERVER, *flags, etcd=etcd.address) as server:

        async def show(name: str) -> tuple[int, str, str]:
            tls = ("--tls-ca", trust, "--tls-server-name", "book-server", *own(name))
            return await command(*tls, "--etcd", etcd.address, "faults", "show")

        assert await show("book-client") == (0, f"{server.address}: no fault\n", "")
        code, out, error = await show("stranger")
        assert (code, out) == (1, "")
        assert "PERMISSION_DENIED" in error


async def test_an_etcd_that_is_not_there_is_one_line(run_dir: Path) -> None:
    code, out, error = await command("--etcd", "127.0.0.1:1", "faults", "show")
    assert (code, out, error.count("\n")) == (1, "", 1)
    assert error.startswith("book-client: ")
