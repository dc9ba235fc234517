"""Spans over TLS to a Zipkin whose certificate a private authority has signed."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from localmesh.components import FAST, BookClient, BookServer, EtcdServer, ZipkinServer
from meshkit.background import end_tasks


@asynccontextmanager
async def tls_in_front_of(port: int, authority: trustme.CA) -> AsyncIterator[int]:
    """A port that speaks TLS and passes on what it hears to another one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    passing: set[asyncio.Task[None]] = set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        passing.update(asyncio.create_task(pipe(*ends)) for ends in ((reader, there_writer), (there_reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await end_tasks(tuple(passing))


@pytest.mark.parametrize("known", [True, False], ids=["authority known", "authority unknown"])
async def test_spans_go_over_tls_to_a_collector_whose_authority_ssl_cert_file_names(
    known: bool, run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(run_dir / "ca.pem")
    if known:
        monkeypatch.setenv("SSL_CERT_FILE", str(run_dir / "ca.pem"))
    async with tls_in_front_of(zipkin.port, authority) as port:
        collector = f"https://localhost:{port}/api/v2/spans"
        client = BookClient(run_dir, "--calls", "1", etcd=etcd.address, zipkin=collector)
        async with BookServer(run_dir, *FAST, etcd=etcd.address, zipkin=collector) as server:
            client.spawn()
            assert await client.wait() == 0
            if known:
                spans = await zipkin.wait_trace(client.calls[0]["trace_id"], 5)
                assert {span["localEndpoint"]["serviceName"] for span in spans} == {"book-client", "book-server"}
        assert server.status == 0
    dropped = client.events("spans dropped")
    if known:
        assert not dropped
    else:
        assert "CERTIFICATE_VERIFY_FAILED" in dropped[-1]["reason"]
        assert not await zipkin.trace(client.calls[0]["trace_id"])
