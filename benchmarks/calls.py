"""Calls a second, latency, CPU and memory of the contenders, side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import BARE, BARE_UVLOOP, TRACED, UNTRACED, USUAL, USUAL_ROOT, Contenders, quiet

__all__ = ["IN_FLIGHT", "compare", "endure"]

IN_FLIGHT = (1, 16, 128)


async def compare(
    run_dir: Path, *, rounds: int, seconds: float, servers: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Load each contender in turn, round after round, each round beginning with another one."""
    samples: dict[tuple[int, str], list[dict[str, float]]] = {}
    contenders = Contenders(run_dir, servers=servers)
    async with contenders:
        for contender in contenders.all:
            await contender.load(16, 1.0)
        for number in range(rounds):
            say(f"calls: round {number + 1} of {rounds}")
            for in_flight in IN_FLIGHT:
                turn = number % len(contenders.all)
                for contender in (*contenders.all[turn:], *contenders.all[:turn]):
                    found = await contender.load(in_flight, seconds)
                    samples.setdefault((in_flight, contender.key), []).append(found)
        endings = [await contender.end() for contender in contenders.all if contender.zipkin]
    titles = {contender.key: contender.title for contender in contenders.all}
    return {
        "rounds": rounds,
        "seconds": seconds,
        "servers": servers,
        "cells": [
            {"in_flight": in_flight, "key": key, "title": titles[key], **_medians(found, samples[in_flight, BARE])}
            for (in_flight, key), found in samples.items()
        ],
        "ratios": _ratios(samples),
        "spans": [ending.as_json() for ending in endings],
    }


async def endure(run_dir: Path, *, seconds: float, servers: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Load bookmesh, traced, at full speed for long; what its queue and its memory did."""
    contenders = Contenders(run_dir, servers=servers, only=[TRACED])
    async with contenders:
        (contender,) = contenders.all
        await contender.load(16, 2.0)
        memory: list[tuple[float, float]] = []
        most_queued, calls = 0.0, 0.0
        parts = max(4, round(seconds / 5))
        for number in range(parts):
            say(f"endurance: {number * seconds / parts:.0f} of {seconds:.0f} s")
            found = await contender.client.command(do="load", in_flight=16, seconds=seconds / parts, warmup=0.0)
            memory.append((found["rss_mb"], contender.server_memory()))
            most_queued = max(most_queued, found["most_queued"])
            calls += found["calls"]
        await quiet(contender.pids)
        ending = await contender.end()
    half = parts // 2
    return {
        "seconds": seconds,
        "calls": calls,
        "most_queued": most_queued,
        "client_mb": [first for first, _ in memory],
        "server_mb": [second for _, second in memory],
        "client_growth_mb": statistics.mean(m[0] for m in memory[half:]) - memory[half - 1][0],
        "server_growth_mb": statistics.mean(m[1] for m in memory[half:]) - memory[half - 1][1],
        "spans": ending.as_json(),
    }


def _medians(found: Sequence[dict[str, float]], bare: Sequence[dict[str, float]]) -> dict[str, Any]:
    medians: dict[str, Any] = {name: statistics.median(sample[name] for sample in found) for name in found[0]}
    rates = [sample["calls_per_s"] for sample in found]
    medians["spread"] = [min(rates), max(rates)]
    medians["of_bare"] = statistics.median(
        a["calls_per_s"] / b["calls_per_s"] for a, b in zip(found, bare, strict=True)
    )
    return medians


def _ratios(samples: dict[tuple[int, str], list[dict[str, float]]]) -> list[dict[str, Any]]:
    """What the aims are about: ratios at 16 in flight, taken round by round."""
    wanted = (
        ("calls/s, traced of bare", "calls_per_s", TRACED, BARE, "at least 0.5, aim 0.65"),
        ("calls/s, traced of bare on uvloop", "calls_per_s", TRACED, BARE_UVLOOP, "none"),
        ("calls/s, traced of the usual stack", "calls_per_s", TRACED, USUAL, "at least 2"),
        ("calls/s, traced of the usual stack with a root span", "calls_per_s", TRACED, USUAL_ROOT, "at least 2"),
        ("calls/s, untraced of bare", "calls_per_s", UNTRACED, BARE, "at least 0.85"),
        ("calls/s, untraced of bare on uvloop", "calls_per_s", UNTRACED, BARE_UVLOOP, "none"),
        ("p99, traced of bare", "p99_us", TRACED, BARE, "at most 2.5"),
    )
    found = []
    for title, name, one, other, aim in wanted:
        pairs = zip(samples[16, one], samples[16, other], strict=True)
        ratios = [first[name] / second[name] for first, second in pairs]
        found.append(
            {"title": title, "aim": aim, "median": statistics.median(ratios), "spread": [min(ratios), max(ratios)]}
        )
    return found
