"""Closed-loop load: so many calls in flight, each followed by the next as soon as its answer is there.

A load client is a process of its own. It takes commands on standard input, one JSON object a line, and answers each
with one JSON line on standard output:

    {"do": "load", "in_flight": 16, "seconds": 2.0, "warmup": 0.5}   what it measured
    {"do": "flush"}    sends the spans that wait: {"made": ..., "sent": ..., "dropped": ..., "queued": ...}

Every answer also has "rss_mb", the client's resident memory.

It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from array import array
from collections.abc import Awaitable, Callable
from typing import Any

from localmesh.measure import percentile, resident_mb

__all__ = ["Call", "Spans", "make_calls", "serve_commands"]

Call = Callable[[int], Awaitable[object]]


class Spans:
    """What a client reports about its spans; this one makes none."""

    def flush(self) -> dict[str, int]:
        """Send what waits; the counts so far."""
        return {"made": 0, "sent": 0, "dropped": 0}

    def queued(self) -> int:
        """Spans that wait."""
        return 0


async def make_calls(call: Call, *, in_flight: int, seconds: float, warmup: float = 0.5) -> dict[str, float]:
    """Make calls for `warmup` + `seconds`; what the latter part cost, in microseconds where it is a time."""
    await _loop(call, in_flight, warmup)
    cpu, start = time.process_time(), time.perf_counter()
    latencies = await _loop(call, in_flight, seconds)
    elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
    calls = len(latencies)
    ranked = sorted(latencies)
    return {
        "calls": calls,
        "calls_per_s": calls / elapsed,
        "p50_us": percentile(ranked, 50) * 1e6,
        "p99_us": percentile(ranked, 99) * 1e6,
        "client_cpu_us": cpu / calls * 1e6,
    }


async def _loop(call: Call, in_flight: int, seconds: float) -> array[float]:
    latencies = array("d")
    now = time.perf_counter
    end = now() + seconds

    async def one_after_the_other() -> None:
        number = 0
        start = now()
        while start < end:
            number += 1
            await call(number)
            done = now()
            latencies.append(done - start)
            start = done

    async with asyncio.TaskGroup() as workers:
        for _ in range(in_flight):
            workers.create_task(one_after_the_other())
    return latencies


async def serve_commands(call: Call, spans: Spans | None = None) -> None:
    """Obey standard input until it ends."""
    spans = spans or Spans()
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        answer: dict[str, Any]
        if command.pop("do") == "load":
            loading = asyncio.create_task(make_calls(call, **command))
            most_queued = 0
            while not loading.done():
                await asyncio.wait([loading], timeout=0.1)
                most_queued = max(most_queued, spans.queued())
            answer = {**loading.result(), "most_queued": most_queued}
        else:
            answer = {**await asyncio.to_thread(spans.flush), "queued": spans.queued()}
        answer["rss_mb"] = resident_mb()
        print(json.dumps(answer), flush=True)
