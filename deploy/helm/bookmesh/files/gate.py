"""Stands at the door of a Zipkin whose traces outlive it: when the pod is to go, the door shuts first.

Zipkin confirms spans before it has stored them, and told to stop, it drops those that still wait. Here they are let go
in order: told to stop, this ends at once and with it every connection; Zipkin's own container is stopped some seconds
later, when all that it has taken is stored. The programs meanwhile send again what was not confirmed.

Usage: gate.py FROM_PORT TO_PORT
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

CHUNK = 65536


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes one way until there are no more."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()


async def admit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: int) -> None:
    """Join a connection to one of Zipkin's; either's end is the end of both."""
    ends = [writer]
    try:
        inner, outer = await asyncio.open_connection("localhost", to)
        ends.append(outer)
        ways = [asyncio.ensure_future(way) for way in (carry(reader, outer), carry(inner, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    except OSError:
        pass  # Zipkin is not up yet, or not any more: whoever calls is cut off, as without a gate
    finally:
        for end in ends:
            end.close()


async def main(port: int, to: int) -> None:
    """Serve until told to stop; the kernel then closes every connection at once."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    await asyncio.start_server(lambda reader, writer: admit(reader, writer, to), None, port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
