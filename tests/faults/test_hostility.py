"""Hostile clients, and hostile keys in etcd: well-behaved clients are served as before."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import pytest
from book_pb2 import BookInfo
from etcd3.etcdrpc import rpc_pb2 as rpc
from etcd3.etcdrpc import rpc_pb2_grpc as stubs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from localmesh.components import BookServer, EtcdServer
from localmesh.waiting import NotYetError, until
from meshkit import EtcdClient, Instancer
from meshkit.address import parse_address
from meshkit.discovery.ignored import MINUTE, TOLD
from tests.faults.replicas import SHORT_LEASE
from tests.faults.sampling import PREFIX
from tests.support.unary import Unary

Figure = Callable[[str], None]
INFO, LIST = "/BookService/GetBookInfo", "/BookService/GetBookList"
IDLE, LORISES = 1000, 50
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
EMPTY_SETTINGS = bytes.fromhex("000000040000000000")


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough of them for all connections, here and in the children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
    writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(count)]
    try:
        yield writers
    finally:
        for writer in writers:
            writer.transport.abort()


async def good_calls(address: str) -> list[float]:
    """Seconds of calls that each come over a connection of their own, as those of a newcomer."""
    seconds = []
    for number in range(20):
        async with Unary(address) as client:
            start = time.perf_counter()
            answer = BookInfo.FromString(await client.call(INFO, bytes((8, number + 1))))
            seconds.append(time.perf_counter() - start)
            assert answer.book_id == number + 1
        await asyncio.sleep(0.05)
    return seconds


@pytest.mark.usefixtures("descriptors")
async def test_a_good_call_takes_under_100_ms_beside_1000_idle_connections_and_50_slow_lorises(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        """The start of a request, a byte at a time, without an end."""
        with_headers = PREFACE + EMPTY_SETTINGS + bytes.fromhex("0000ff010000000001") + bytes(255)
        for byte in with_headers:
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.1)

    async with BookServer(run_dir, *SHORT_LEASE, etcd=etcd.address) as server:
        alone = median(await good_calls(server.address))
        async with connections(server.port, IDLE) as idle, connections(server.port, LORISES) as lorises:
            for writer in idle[: IDLE // 2]:
                writer.write(PREFACE + EMPTY_SETTINGS)
            dripping = [asyncio.create_task(drip(writer)) for writer in lorises]
            seconds = await good_calls(server.address)
            for task in dripping:
                task.cancel()
            await asyncio.gather(*dripping, return_exceptions=True)
            in_use = _descriptors(server)

            async def let_go() -> None:
                # Half of the idle ones have not even said that they speak HTTP/2, and the lorises never finish.
                if (left := _descriptors(server)) > in_use - IDLE // 2:
                    raise NotYetError(f"{left} descriptors of {in_use}")

            start = time.monotonic()
            await until(let_go, within=20, what="silent connections closed", every=0.5)
            closed = time.monotonic() - start
    figure(
        f"a good call on a new connection: median {median(seconds) * 1000:.1f} ms, longest {max(seconds) * 1000:.1f} ms"
        f" (alone {alone * 1000:.1f} ms); silent connections closed after {closed:.0f} s more"
    )
    assert median(seconds) < 0.1


def _descriptors(server: BookServer) -> int:
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.INVALID_ARGUMENT,
}
# Wire types and field numbers as the messages have them, with any bytes after.
FIELDS = st.builds(lambda tag, rest: bytes((tag,)) + rest, st.integers(0, 127), st.binary(max_size=40))
MESSAGES = st.one_of(st.binary(max_size=300), st.lists(FIELDS, max_size=8).map(b"".join))
HEADERS = st.dictionaries(
    st.sampled_from(["b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"]),
    st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80),
        st.from_regex(r"[0-9a-f]{15,17}(-[0-9a-f]{15,17}(-[01d]?)?)?", fullmatch=True),
    ),
    max_size=6,
)


async def test_no_message_and_no_header_crashes_or_hangs_the_server(
    run_dir: Path, etcd: EtcdServer, figure: Figure
) -> None:
    async with BookServer(run_dir, *SHORT_LEASE, etcd=etcd.address) as server:
        sent: list[tuple[str, bytes, dict[str, str]]] = []

        @settings(max_examples=1500, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.sampled_from([INFO, LIST]), MESSAGES, HEADERS)
        def collect(method: str, message: bytes, headers: dict[str, str]) -> None:
            sent.append((method, message, headers))

        # hypothesis makes the messages; they are sent side by side, on one connection.
        collect()
        slowest = 0.0
        async with Unary(server.address) as client:
            for method, message, headers in sent:
                start = time.perf_counter()
                status = await client.status(method, message, metadata=headers, timeout=10)
                slowest = max(slowest, time.perf_counter() - start)
                assert status in ANSWERS, (method, message.hex(), headers)
            assert BookInfo.FromString(await client.call(INFO, b"\x08\x07")).book_id == 7
        assert server.running
        assert "Traceback" not in server.output()
    figure(f"{len(sent)} messages, each with a status, the slowest after {slowest * 1000:.0f} ms")


ADDRESSES = st.builds("127.0.0.2:{}".format, st.integers(1, 99)).map(str.encode)
VALUES = st.one_of(
    st.binary(max_size=300),
    st.text(max_size=100).map(str.encode),
    ADDRESSES,
    # Nearly one.
    st.builds(lambda address, at, byte: address[:at] + byte + address[at:], ADDRESSES, st.integers(0, 12), st.binary()),
)
SUFFIXES = st.one_of(st.binary(max_size=60), st.text(max_size=40).map(str.encode))


async def test_no_value_and_no_key_in_etcd_ends_discovery(
    etcd: EtcdServer, etcd_client: EtcdClient, figure: Figure
) -> None:
    batches: list[dict[bytes, bytes]] = []

    @settings(max_examples=200, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(SUFFIXES, VALUES, min_size=1, max_size=20))
    def collect(batch: dict[bytes, bytes]) -> None:
        batches.append({PREFIX.encode() + suffix: value for suffix, value in batch.items()})

    collect()
    failed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
    there: dict[bytes, bytes] = {}
    bad = 0
    slowest = 0.0

    def addresses_in(batch: dict[bytes, bytes]) -> set[str]:
        """Of what is an instance: its key is the prefix and its address."""
        found = {key: address_in(value) for key, value in batch.items()}
        return {address for key, address in found.items() if address and key == (PREFIX + address).encode()}

    async def lists(instancer: Instancer) -> None:
        expected = addresses_in(there)
        if instancer.instances != expected:
            raise NotYetError(f"{sorted(instancer.instances ^ expected)}: {instancer.reason}")

    began = time.monotonic()
    with capture_logs() as logs:
        async with grpc.aio.insecure_channel(etcd.address) as channel, Instancer(etcd_client, PREFIX) as instancer:
            for number, batch in enumerate(batches, start=1):
                puts = [rpc.PutRequest(key=key, value=value) for key, value in batch.items()]
                await stubs.KVStub(channel).Txn(rpc.TxnRequest(success=[rpc.RequestOp(request_put=p) for p in puts]))
                there |= batch
                bad += len(batch) - len(addresses_in(batch))
                # Something good after it: whoever hears of that goes on.
                good = f"127.0.0.1:{number}"
                await etcd_client.put(PREFIX + good, good)
                there[(PREFIX + good).encode()] = good.encode()
                start = time.perf_counter()
                await until(partial(lists, instancer), within=2, what=f"{good} after {batch}", every=0.002)
                slowest = max(slowest, time.perf_counter() - start)
        skipped = [entry for entry in logs if entry["event"] == "registration ignored"]
        assert skipped
        assert len(skipped) <= TOLD * (1 + (time.monotonic() - began) // MINUTE)
        # All of it at once, in a list instead of a watch; and gone again.
        async with grpc.aio.insecure_channel(etcd.address) as channel, Instancer(etcd_client, PREFIX) as instancer:
            await until(partial(lists, instancer), within=2, what="all of it listed", every=0.01)
            for batch in batches:
                for key in batch.keys() & there.keys():
                    await stubs.KVStub(channel).DeleteRange(rpc.DeleteRangeRequest(key=key))
                    del there[key]
            await until(partial(lists, instancer), within=2, what="only the good ones left", every=0.01)
    assert failed == []
    usual = {"registration ignored", "more registrations ignored", "instances changed"}
    unexpected = [entry for entry in logs if entry["event"] not in usual]
    assert unexpected == []
    figure(
        f"{sum(map(len, batches)):,} keys in {len(batches)} transactions, {bad:,} of no use;"
        f" the good instance after each within {slowest * 1000:.0f} ms"
    )


def address_in(value: bytes) -> str | None:
    try:
        text = value.decode()
        parse_address(text)
    except ValueError:
        return None
    return text
