"""Mutual TLS between client and server, by flags and files: taken up when they change, refused when they are wrong."""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from book_pb2 import BookInfoParams
from book_pb2_grpc import BookServiceStub
from grpc_health.v1 import health_pb2, health_pb2_grpc

from localmesh.components import BookClient, BookServer, EtcdServer
from localmesh.lines import logged_at
from localmesh.ports import free_port
from localmesh.waiting import NotYetError, until
from tests.faults.replicas import SHORT_LEASE
from tests.support.unary import Unary

Figure = Callable[[str], None]
NAME = "book-server"
NOW = datetime.now(UTC)


def expired(ca: trustme.CA) -> trustme.LeafCert:
    return ca.issue_cert(NAME, not_before=NOW - timedelta(days=3), not_after=NOW - timedelta(days=1))


class Files:
    """A certificate, its key and the CA to trust, where a Kubernetes secret would put them."""

    def __init__(self, folder: Path, trusted: trustme.CA, own: trustme.LeafCert | None) -> None:
        folder.mkdir()
        self.ca, self.cert, self.key = folder / "ca.crt", folder / "tls.crt", folder / "tls.key"
        self.write(trusted, own)

    def write(self, trusted: trustme.CA, own: trustme.LeafCert | None) -> None:
        trusted.cert_pem.write_to_path(self.ca)
        if own is not None:
            self.show(own)

    def show(self, own: trustme.LeafCert) -> None:
        self.key.write_bytes(own.private_key_pem.bytes())
        self.cert.write_bytes(b"".join(part.bytes() for part in own.cert_chain_pems))

    def channel(self, server: BookServer) -> grpc.aio.Channel:
        """A new connection, with what is in the files now."""
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes())
        options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
        return grpc.aio.secure_channel(server.address, credentials, options=options)

    def server_flags(self) -> list[str]:
        return ["--tls-cert", str(self.cert), "--tls-key", str(self.key), "--tls-client-ca", str(self.ca)]

    def client_flags(self) -> list[str]:
        own = ["--tls-cert", str(self.cert), "--tls-key", str(self.key)] if self.cert.exists() else []
        return ["--tls-ca", str(self.ca), *own, "--tls-server-name", NAME]


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA(organization_name="ours")


@pytest.fixture(scope="module")
def other_ca() -> trustme.CA:
    return trustme.CA(organization_name="somebody else's")


@pytest.fixture
def both_files(run_dir: Path, ca: trustme.CA) -> tuple[Files, Files]:
    """The server's and the client's."""
    return (
        Files(run_dir / "server", ca, ca.issue_cert(NAME)),
        Files(run_dir / "client", ca, ca.issue_cert("book-client")),
    )


async def test_calls_go_over_mutual_tls_and_probes_go_to_the_plaintext_health_port(
    run_dir: Path, etcd: EtcdServer, both_files: tuple[Files, Files], figure: Figure
) -> None:
    server_files, client_files = both_files
    health = f"127.0.0.1:{free_port()}"
    flags = (*SHORT_LEASE, *server_files.server_flags(), "--health-listen", health)
    async with BookServer(run_dir, *flags, etcd=etcd.address):
        client = BookClient(run_dir, "--calls", "200", *client_files.client_flags(), etcd=etcd.address)
        client.spawn()
        assert await client.wait() == 0
        async with grpc.aio.insecure_channel(health) as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        async with Unary(health) as client_of_health:
            assert await client_of_health.status("/BookService/GetBookInfo") is grpc.StatusCode.UNIMPLEMENTED
    figure(f"200 calls over mutual TLS, p50 {client.summary['p50_ms']:.1f} ms")


Peers = tuple[list[str], list[str]]


def _refusals(  # noqa: PLR0911 - a table
    folder: Path, ca: trustme.CA, other_ca: trustme.CA, case: str
) -> tuple[Peers, Iterable[str], str]:
    """Flags of the server and of the client, and what the client's error and the server's log say."""
    good_server = Files(folder / "s", ca, ca.issue_cert(NAME)).server_flags()
    good_client = Files(folder / "c", ca, ca.issue_cert("book-client")).client_flags()

    def client(trusted: trustme.CA, own: trustme.LeafCert | None) -> list[str]:
        return Files(folder / "bad", trusted, own).client_flags()

    def server(own: trustme.LeafCert) -> list[str]:
        return Files(folder / "bad", ca, own).server_flags()

    stranger = other_ca.issue_cert(NAME, "book-client")
    match case:
        case "client without a certificate":
            return (good_server, client(ca, None)), ["Socket closed"], "PEER_DID_NOT_RETURN_A_CERTIFICATE"
        case "client with another CA's certificate":
            return (good_server, client(ca, stranger)), ["Socket closed"], "unable to get local issuer certificate"
        case "client that trusts another CA":
            own = ca.issue_cert("book-client")
            return (good_server, client(other_ca, own)), ["unable to get local issuer certificate"], ""
        case "server with another CA's certificate":
            return (server(stranger), good_client), ["unable to get local issuer certificate"], ""
        case "server with another name":
            return (server(ca.issue_cert("library")), good_client), ["Hostname Verification Check failed"], ""
        case "client in plaintext":
            return (good_server, []), ["Socket closed"], "WRONG_VERSION_NUMBER|HTTP_REQUEST"
        case "server in plaintext":
            return ([], good_client), ["WRONG_VERSION_NUMBER"], ""
    raise AssertionError(case)


@pytest.mark.parametrize(
    "case",
    [
        "client without a certificate",
        "client with another CA's certificate",
        "client that trusts another CA",
        "server with another CA's certificate",
        "server with another name",
        "client in plaintext",
        "server in plaintext",
    ],
)
async def test_a_peer_with_the_wrong_certificate_is_refused_and_the_error_says_so(
    run_dir: Path, etcd: EtcdServer, ca: trustme.CA, other_ca: trustme.CA, case: str
) -> None:
    (server_flags, client_flags), said_to_the_client, logged_by_the_server = _refusals(run_dir, ca, other_ca, case)
    async with BookServer(run_dir, *SHORT_LEASE, *server_flags, etcd=etcd.address) as server:
        start = time.monotonic()
        client = BookClient(run_dir, "--calls", "1", "--timeout", "5s", *client_flags, etcd=etcd.address)
        client.spawn()
        assert await client.wait() == 1
        assert time.monotonic() - start < 10
        (call,) = client.calls
        assert call["outcome"] == "UNAVAILABLE"
        assert "\n" not in call["error"]
        for words in said_to_the_client:
            assert words in call["error"]
        log = server.output()
        assert not logged_by_the_server or any(words in log for words in logged_by_the_server.split("|")), log
        assert await server.stop() == 0


@pytest.mark.parametrize("whose", ["the server's", "the client's"])
async def test_a_certificate_that_expires_meanwhile_is_refused_at_the_next_connection(
    run_dir: Path, etcd: EtcdServer, ca: trustme.CA, whose: str, figure: Figure
) -> None:
    files = Files(run_dir / "server", ca, ca.issue_cert(NAME))
    async with BookServer(run_dir, *SHORT_LEASE, *files.server_flags(), etcd=etcd.address) as server:
        end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
        client_leaf = ca.issue_cert("book-client", not_after=end if whose == "the client's" else None)
        if whose == "the server's":
            files.write(ca, ca.issue_cert(NAME, not_after=end))
        client_files = Files(run_dir / "client", ca, client_leaf)
        good = 0

        async def refused() -> str:
            nonlocal good
            async with client_files.channel(server) as channel:
                try:
                    await BookServiceStub(channel).GetBookInfo(BookInfoParams(book_id=1), timeout=5)
                except grpc.aio.AioRpcError as error:
                    return f"{error.code().name}: {error.details()}"
                good += 1
                raise NotYetError(f"{good} good calls")

        error = await until(refused, within=20, what="the connection refused", every=0.2)
        refused_at = datetime.now(UTC)
    figure(f"{whose} taken {good} times, refused {(refused_at - end).total_seconds():.1f} s after its end")
    assert good
    assert error.startswith("UNAVAILABLE")
    assert "certificate has expired" in (error if whose == "the server's" else server.output())


def _unusable(folder: Path, ca: trustme.CA, case: str) -> tuple[Files, str]:
    files = Files(folder / "tls", ca, expired(ca) if case == "expired" else ca.issue_cert(NAME))
    match case:
        case "expired":
            return files, "certificate has expired"
        case "missing":
            files.cert.unlink()
            return files, "does not exist"
        case "another key":
            files.key.write_bytes(ca.issue_cert(NAME).private_key_pem.bytes())
            return files, "the key is not that of the certificate"
        case "no PEM":
            files.cert.write_text("certificate")
            return files, "PEM form"
    raise AssertionError(case)


@pytest.mark.parametrize("case", ["expired", "missing", "another key", "no PEM"])
@pytest.mark.parametrize("program", ["book-server", "book-client"])
async def test_own_certificates_that_are_of_no_use_are_one_line_and_exit_code_2(
    run_dir: Path, ca: trustme.CA, program: str, case: str
) -> None:
    files, reason = _unusable(run_dir, ca, case)
    if program == "book-server":
        process: Any = BookServer(run_dir, *files.server_flags(), etcd="127.0.0.1:1")
    else:
        own = ("--tls-cert", str(files.cert), "--tls-key", str(files.key))
        process = BookClient(run_dir, "--tls-ca", str(files.ca), *own, etcd="127.0.0.1:1")
    process.spawn()
    assert await process.wait() == 2
    (line,) = process.output().splitlines()
    assert line.startswith(program)
    assert reason in line


async def test_certificates_that_change_are_taken_up_on_both_sides_without_a_failed_call(
    run_dir: Path, etcd: EtcdServer, ca: trustme.CA, both_files: tuple[Files, Files], figure: Figure
) -> None:
    """A whole change of CA: trust both, show the new certificates, trust the new one alone."""
    server_files, client_files = both_files

    async def taken_by_server() -> None:
        """It looks at its files at a handshake, once a second."""
        changed = time.time()

        async def probe() -> None:
            async with client_files.channel(server) as channel:
                await BookServiceStub(channel).GetBookInfo(BookInfoParams(book_id=1), timeout=5)
            times = [logged_at(event) for event in server.events("certificates read again")]
            if not times or times[-1] < changed:
                raise NotYetError(f"read {len(times)} times, the last one before the change")

        await until(probe, within=10, what="the server's new files taken up", every=0.2)

    new_ca = trustme.CA(organization_name="ours, next year's")
    server = BookServer(run_dir, *SHORT_LEASE, *server_files.server_flags(), etcd=etcd.address)
    client = BookClient(run_dir, "--calls", "0", "--interval", "5ms", *client_files.client_flags(), etcd=etcd.address)
    async with server, client:
        await client.wait_event("call", count=20)
        both = ca.cert_pem.bytes() + new_ca.cert_pem.bytes()
        for files in (server_files, client_files):
            files.ca.write_bytes(both)
        await taken_by_server()
        await client.wait_event("certificates read again")
        changed = time.time()
        client_files.show(new_ca.issue_cert("book-client"))
        await client.wait_event("certificates read again", count=2)
        server_files.show(new_ca.issue_cert(NAME))
        await taken_by_server()
        for files in (server_files, client_files):
            new_ca.cert_pem.write_to_path(files.ca)
        await taken_by_server()
        taken = logged_at(await client.wait_event("certificates read again", count=3))
        await client.wait_event("call", count=len(client.calls) + 200)
        # Who still shows the old certificates is refused.
        old = Files(run_dir / "old", new_ca, ca.issue_cert("book-client"))
        late = BookClient(
            run_dir, "--calls", "1", "--timeout", "5s", *old.client_flags(), etcd=etcd.address, name="late"
        )
        late.spawn()
        assert await late.wait() == 1
        # What is of no use is said, and not taken.
        client_files.cert.write_text("half a certif")
        await client.wait_event("new certificates not used")
        await client.wait_event("call", count=len(client.calls) + 50)
        assert await client.stop() == 0
    assert client.summary["failures"] == 0
    figure(
        f"three changes, {client.summary['calls']} calls, none failed; the last one taken after {taken - changed:.1f} s"
    )


async def test_an_expired_certificate_that_comes_by_a_change_is_not_taken(
    run_dir: Path, etcd: EtcdServer, ca: trustme.CA, both_files: tuple[Files, Files]
) -> None:
    server_files, client_files = both_files
    server = BookServer(run_dir, *SHORT_LEASE, *server_files.server_flags(), etcd=etcd.address)
    async with server:
        server_files.write(ca, expired(ca))
        # The server looks at a handshake: the client's new channel makes one.
        flags = ("--calls", "0", "--interval", "50ms")
        client = BookClient(run_dir, *flags, *client_files.client_flags(), etcd=etcd.address)
        async with client:
            await client.wait_event("call", count=15)
            client_files.ca.write_bytes(client_files.ca.read_bytes() + b"\n")
            await client.wait_event("certificates read again")
            await client.wait_event("call", count=len(client.calls) + 10)
            assert await client.stop() == 0
        assert client.summary["failures"] == 0
        assert "certificate has expired" in (await server.wait_event("new certificates not used"))["reason"]
