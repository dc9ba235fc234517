"""A server that only certain callers may call: those of other names, by the same authority, get PERMISSION_DENIED."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from localmesh.ports import free_port
from meshkit import PemFiles, ServerTls, serve

# Key and certificate.
Pair = tuple[bytes, bytes]
DENIED, OK = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.OK
SERVICE = "p.S"


async def one(request: bytes, _: Any) -> bytes:
    return request


async def many(request: bytes, _: Any) -> AsyncIterator[bytes]:
    yield request


async def last(requests: AsyncIterator[bytes], _: Any) -> bytes:
    return [request async for request in requests][-1]


async def each(requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request


async def by_writing(request: bytes, context: Any) -> None:
    await context.write(request)


def add(server: grpc.aio.Server) -> None:
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "One": grpc.unary_unary_rpc_method_handler(one),
        "Many": grpc.unary_stream_rpc_method_handler(many),
        "Last": grpc.stream_unary_rpc_method_handler(last),
        "Each": grpc.stream_stream_rpc_method_handler(each),
        "ByWriting": grpc.unary_stream_rpc_method_handler(by_writing),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class Caller:
    """Calls in the name of a certificate; each method gives the status."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    async def of_all_kinds(self) -> set[grpc.StatusCode]:
        channel, health = self._channel, health_pb2.HealthCheckRequest()
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        calls: list[Callable[[], Any]] = [
            lambda: channel.unary_unary(f"/{SERVICE}/One")(b"x", timeout=10),
            lambda: channel.unary_stream(f"/{SERVICE}/Many")(b"x", timeout=10),
            lambda: channel.stream_unary(f"/{SERVICE}/Last")(iter([b"x", b"y"]), timeout=10),
            lambda: channel.stream_stream(f"/{SERVICE}/Each")(iter([b"x", b"y"]), timeout=10),
            lambda: channel.unary_stream(f"/{SERVICE}/ByWriting")(b"x", timeout=10),
            lambda: health_pb2_grpc.HealthStub(channel).Check(health, timeout=10),
            lambda: reflect(iter([question]), timeout=10),
        ]
        return {await _status(call) for call in calls}


async def _status(make_call: Callable[[], Any]) -> grpc.StatusCode:
    while True:
        call = make_call()
        with suppress(grpc.aio.AioRpcError):
            if hasattr(call, "read"):
                async for _ in call:
                    pass
        code: grpc.StatusCode = await call.code()
        # grpc.aio's client has this for a status that comes while it still sends requests.
        if (await call.details()) != "Internal error from Core":
            return code


@pytest.fixture
def server(tmp_path: Path, authority: trustme.CA) -> Callable[..., Any]:
    own = authority.issue_cert("localhost")
    files = PemFiles(tmp_path / "ca", tmp_path / "cert", tmp_path / "key")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    own.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    own.private_key_pem.write_to_path(tmp_path / "key")

    def open_server(*names: str, **options: Any) -> Any:
        tls = ServerTls(files, client_names=names)
        return serve(add, [SERVICE], listen="127.0.0.1:0", tls=tls, drain=0, grace=0, **options)

    return open_server


def with_uri(authority: trustme.CA, uri: str) -> Pair:
    """A certificate whose only name is a URI, which trustme has no way to ask for."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(issuer.subject, x509.Name([]), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=True)
        .sign(cast(Any, serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)), hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, bare = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(pem, form, bare), certificate.public_bytes(pem)


def channel(authority: trustme.CA, port: int, own: trustme.LeafCert | Pair) -> grpc.aio.Channel:
    if isinstance(own, trustme.LeafCert):
        own = own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *own)
    options = (("grpc.use_local_subchannel_pool", 1),)
    return grpc.aio.secure_channel(f"localhost:{port}", credentials, options=options)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("book-client",), OK),
        (("another", "Book-Client"), OK),
        (("other-workload",), DENIED),
        (("*.mesh",), DENIED),
        (("book-clien", "book-client.mesh", "mesh"), DENIED),
        ((), OK),
    ],
)
async def test_a_caller_is_served_where_a_name_of_its_certificate_is_among_those_that_may_call(
    server: Callable[..., Any], authority: trustme.CA, names: tuple[str, ...], expected: grpc.StatusCode
) -> None:
    leaf = authority.issue_cert("a.mesh", "BOOK-client")
    async with server(*names) as port, channel(authority, port, leaf) as calls:
        assert await Caller(calls).of_all_kinds() == {expected}


async def test_a_uri_is_a_name(server: Callable[..., Any], authority: trustme.CA) -> None:
    async with server("spiffe://mesh/book-client") as port:
        for path, expected in (("book-client", OK), ("Book-client", DENIED), ("book-client/x", DENIED)):
            async with channel(authority, port, with_uri(authority, f"spiffe://mesh/{path}")) as calls:
                assert await Caller(calls).of_all_kinds() == {expected}


async def test_a_common_name_and_an_address_are_no_names(server: Callable[..., Any], authority: trustme.CA) -> None:
    leaf = authority.issue_cert("10.0.0.1", "client@mesh.example", common_name="book-client")
    names = ("book-client", "10.0.0.1", "client@mesh.example")
    async with server(*names) as port, channel(authority, port, leaf) as calls:
        assert await Caller(calls).of_all_kinds() == {DENIED}


async def test_probes_reach_the_health_port_and_each_refused_caller_is_one_log_line(
    server: Callable[..., Any], authority: trustme.CA
) -> None:
    health = f"127.0.0.1:{free_port()}"
    with capture_logs() as logs:
        async with server("book-client", health_listen=health) as port:
            for name in ("stranger", "stranger", "other"):
                async with channel(authority, port, authority.issue_cert(name)) as calls:
                    assert await Caller(calls).of_all_kinds() == {DENIED}
            async with grpc.aio.insecure_channel(health) as probes:
                answer = await health_pb2_grpc.HealthStub(probes).Check(health_pb2.HealthCheckRequest(), timeout=10)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert [entry["names"] for entry in logs if entry["event"] == "caller refused"] == ["stranger", "other"]


def test_names_of_callers_without_certificates_are_a_mistake(server: Callable[..., Any], tmp_path: Path) -> None:
    files = PemFiles(tmp_path / "ca", tmp_path / "cert", tmp_path / "key")
    with pytest.raises(ValueError, match="only where clients need a certificate"):
        ServerTls(files, require_client=False, client_names=["book-client"])
