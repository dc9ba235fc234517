"""HTTP/2 by hand (RFC 9113), for what no client of gRPC does."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from meshkit.background import end_tasks

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 3, 4
CANCEL = 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def setting(identifier: int, value: int) -> bytes:
    return struct.pack(">HI", identifier, value)


def reset(stream: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


def headers(path: str, more: Mapping[str, str] | None = None) -> bytes:
    """A block of a call's headers, none of them compressed (RFC 7541 §6.2.2)."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        **(more or {}),
    }
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields.items())


def message(payload: bytes) -> bytes:
    """A message as gRPC frames it, uncompressed."""
    return b"\0" + struct.pack(">I", len(payload)) + payload


def call(stream: int, path: str, payload: bytes = b"", more: Mapping[str, str] | None = None) -> bytes:
    """All that a client sends for a unary call."""
    return frame(HEADERS, END_HEADERS, stream, headers(path, more)) + frame(DATA, END_STREAM, stream, message(payload))


@asynccontextmanager
async def connection(port: int, *settings: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a port of this machine on which the preface and our settings have been sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(PREFACE + frame(SETTINGS, 0, 0, b"".join(settings)) + frame(SETTINGS, ACK, 0))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def rapid_resets(port: int, path: str, *, pause: float = 0) -> None:
    """Open streams and reset them at once, 20 between two pauses (seconds), until the connection ends."""
    with suppress(OSError):
        async with connection(port) as (reader, writer):
            reading = asyncio.create_task(reader.read())
            stream = 1
            try:
                while not reading.done():
                    for _ in range(20):
                        writer.write(call(stream, path) + reset(stream))
                        stream += 2
                    await writer.drain()
                    await asyncio.sleep(pause)
            finally:
                await end_tasks([reading])


async def next_frame(reader: asyncio.StreamReader) -> tuple[int, int, int, bytes]:
    """Read a frame: kind, flags, stream, payload."""
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3]))
    return head[3], head[4], int.from_bytes(head[5:]), payload


def _string(text: str) -> bytes:
    """A string literal of HPACK (RFC 7541 §5.2), whose length is an integer with a prefix of 7 bits (§5.1)."""
    encoded = text.encode()
    length = len(encoded)
    if length < 127:
        return bytes((length,)) + encoded
    length -= 127
    more = bytearray((127,))
    while length >= 128:
        more.append(length % 128 + 128)
        length //= 128
    more.append(length)
    return bytes(more) + encoded
