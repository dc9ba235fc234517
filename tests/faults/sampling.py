"""What is seen from outside: keys in etcd, a program's processor time, etcd's own counters."""

import asyncio
import re
import time
from typing import Any

from localmesh.components import FAST, BookClient, EtcdServer
from localmesh.http import request
from localmesh.waiting import NotYetError, until
from meshkit.errors import EtcdError
from meshkit.etcd import EtcdClient, KeyValue

PREFIX = "/services/book/"
TTL = 5
SERVER = (*FAST, "--lease-ttl", str(TTL), "--drain", "500ms")


async def items(etcd: EtcdClient) -> dict[str, KeyValue]:
    return {item.key: item for item in (await etcd.list(PREFIX)).items}


async def wait_keys(etcd: EtcdClient, addresses: set[str], *, within: float) -> float:
    """Seconds until exactly these addresses are registered."""
    start = time.monotonic()

    async def probe() -> None:
        try:
            found = {item.value for item in (await items(etcd)).values()}
        except EtcdError as error:
            raise NotYetError(str(error)) from error
        if found != addresses:
            raise NotYetError(str(found))

    await until(probe, within=within, what=f"keys of {addresses}", every=0.02)
    return time.monotonic() - start


async def last_missing(etcd: EtcdClient, addresses: set[str], *, during: float) -> float:
    """Watch the keys for so long; seconds from now to the last sample in which one was missing, 0 if none was."""
    start, last = time.monotonic(), 0.0
    while (now := time.monotonic() - start) < during:
        try:
            missing = addresses - {item.value for item in (await items(etcd)).values()}
        except EtcdError:
            missing = addresses
        if missing:
            last = time.monotonic() - start
        del now
        await asyncio.sleep(0.05)
    return last


async def wait_calls(client: BookClient, more: int, *, within: float = 20) -> None:
    """Wait until the client has logged so many further calls."""
    await client.wait_event("call", count=len(client.calls) + more, within=within)


def failures(client: BookClient) -> list[dict[str, Any]]:
    return [call for call in client.calls if call["outcome"] != "ok"]


async def list_calls(etcd: EtcdServer) -> int:
    """How often this member was asked to list keys since its start, as it counts itself."""
    _, answer = await request(f"{etcd.metrics}/metrics", timeout=5)
    found = re.search(rb'grpc_server_started_total\{grpc_method="Range",[^}]*\} (\S+)', answer)
    return int(float(found[1])) if found else 0
