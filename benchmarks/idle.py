"""What an idle server costs, and how soon it serves."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import grpc

from localmesh.components import BookServer, EtcdServer, ZipkinServer
from localmesh.measure import cpu_seconds, resident_mb

__all__ = ["idle"]

STARTS = 5
# Its images have no development package; structlog would import rich, 4.5 MB, where it finds it.
AS_IN_THE_IMAGE = "import sys; sys.modules['rich'] = None; from book_server.__main__ import main; sys.exit(main())"
RECONNECT_OFTEN = [(f"grpc.{which}_reconnect_backoff_ms", 20) for which in ("initial", "min", "max")]


async def idle(run_dir: Path, *, seconds: float = 20.0) -> dict[str, Any]:
    """Start servers, registered and with Zipkin up; then leave the last one alone."""
    async with EtcdServer(run_dir) as etcd, ZipkinServer(run_dir) as zipkin:
        serving = []
        for _ in range(STARTS):
            server = BookServer(run_dir, etcd=etcd.address, zipkin=zipkin.collector)
            server.command[:1] = [sys.executable, "-c", AS_IN_THE_IMAGE]
            start = time.perf_counter()
            server.spawn()
            async with grpc.aio.insecure_channel(server.address, options=RECONNECT_OFTEN) as channel:
                async with asyncio.timeout(20):
                    await channel.channel_ready()
            serving.append(time.perf_counter() - start)
            await server.wait_event("ready")
            await server.stop()
        async with server:
            await asyncio.sleep(2)
            before = cpu_seconds(server.pid)
            await asyncio.sleep(seconds)
            cpu = (cpu_seconds(server.pid) - before) / seconds
            memory = resident_mb(server.pid)
    return {
        "rss_mb": memory,
        "cpu_percent": cpu * 100,
        "import_s": _import_seconds(),
        "serving_s": statistics.median(serving),
        "serving_spread_s": [min(serving), max(serving)],
    }


def _import_seconds() -> float:
    found = []
    for _ in range(STARTS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import book_server.__main__"], check=True, env=dict(os.environ))
        found.append(time.perf_counter() - start)
    return statistics.median(found)
