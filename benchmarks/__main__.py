"""`python -m benchmarks`: measures, prints tables, writes .run/bench/results.json, tables.md and the plot."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click
import grpc
import structlog
from google import protobuf
from rich.console import Console

from benchmarks.balance import balance
from benchmarks.calls import compare, endure
from benchmarks.contenders import BENCH_PYTHON
from benchmarks.growth import growth
from benchmarks.idle import idle
from benchmarks.micro import micro
from benchmarks.report import markdown, show
from localmesh.components import ROOT
from localmesh.load_client import PATHS
from localmesh.process import child_environment

RUN_DIR = ROOT / ".run/bench"
RESULTS = RUN_DIR / "results.json"
USUAL_PARTS = ("calls", "endurance", "micro", "live", "growth", "idle")
# Not of the mesh's speed: it is run for docs/balancing.md.
PARTS = (*USUAL_PARTS, "balance")


@click.command("benchmarks", context_settings={"show_default": True})
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of the comparison.")
@click.option("--seconds", type=click.FloatRange(0.2), default=2.0, help="Of each load.")
@click.option("--servers", type=click.IntRange(1), default=2, help="Replicas of each contender.")
@click.option("--endurance", type=click.FloatRange(4), default=60.0, help="Seconds at full speed.")
@click.option("--only", default=",".join(USUAL_PARTS), help="Parts to run; balance is another.")
def command(rounds: int, seconds: float, servers: int, endurance: float, only: str) -> None:
    """Measure the mesh beside bare gRPC and the usual stack."""
    parts = only.split(",")
    if unknown := set(parts) - set(PARTS):
        raise click.BadParameter(f"unknown part {', '.join(sorted(unknown))}", param_hint="--only")
    shutil.rmtree(RUN_DIR, ignore_errors=True)
    RUN_DIR.mkdir(parents=True)
    console = Console(width=max(Console().width, 150))
    results = asyncio.run(_measure(parts, rounds, seconds, servers, endurance, console))
    show(results, console)
    if "calls" in results:
        env = os.environ | {"PYTHONPATH": PATHS}
        subprocess.run([BENCH_PYTHON, "-m", "benchmarks.plot", RESULTS, RUN_DIR], check=True, env=env, cwd=ROOT)
    console.print(f"written: {RESULTS.relative_to(Path.cwd())}, tables.md and performance-*.svg beside it")


async def _measure(  # noqa: PLR0917
    parts: list[str], rounds: int, seconds: float, servers: int, endurance: float, console: Console
) -> dict[str, Any]:
    """Measure part after part; what is known after each is in the files."""
    start = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - start:4.0f} s  {text}[/dim]")

    measure: dict[str, Callable[[Path], Awaitable[Any]]] = {
        "calls": lambda folder: compare(folder, rounds=rounds, seconds=seconds, servers=servers, say=say),
        "endurance": lambda folder: endure(folder, seconds=endurance, servers=servers, say=say),
        "micro": micro,
        "live": lambda _: _live(),
        "growth": lambda folder: growth(folder, say),
        "idle": idle,
        "balance": lambda folder: balance(folder, say),
    }
    # The meshkit in this process (micro, growth) is to keep its log to itself.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    results: dict[str, Any] = {"machine": _machine(), "when": time.strftime("%Y-%m-%d %H:%M")}
    for part in PARTS:
        if part in parts:
            say(part)
            results[part] = await measure[part](RUN_DIR / part)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            (RUN_DIR / "tables.md").write_text(markdown(results))
    return results


async def _live() -> Any:
    """In a process of its own, whose CPU is all that it measures."""
    command = (sys.executable, "-m", "benchmarks.live")
    env = child_environment() | {"PYTHONPATH": PATHS}
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=env, cwd=ROOT)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return json.loads(output)


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "protobuf": protobuf.__version__,
        "kernel": platform.release().split("-")[0],
    }


if __name__ == "__main__":
    command()
