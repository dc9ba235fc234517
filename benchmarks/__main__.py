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
from pathlib import Path
from typing import Any

import click
import grpc
import structlog
from google import protobuf
from rich.console import Console

from benchmarks.calls import compare, endure
from benchmarks.contenders import BENCH_PYTHON, PATHS
from benchmarks.growth import growth
from benchmarks.idle import idle
from benchmarks.micro import micro
from benchmarks.report import markdown, show
from localmesh.components import ROOT
from localmesh.process import child_environment

RUN_DIR = ROOT / ".run/bench"
PARTS = ("calls", "endurance", "micro", "live", "growth", "idle")


@click.command("benchmarks", context_settings={"show_default": True})
@click.option("--rounds", type=click.IntRange(1), default=5, help="Of the comparison.")
@click.option("--seconds", type=click.FloatRange(0.2), default=2.0, help="Of each load.")
@click.option("--servers", type=click.IntRange(1), default=2, help="Replicas of each contender.")
@click.option("--endurance", type=click.FloatRange(4), default=60.0, help="Seconds at full speed.")
@click.option("--only", default=",".join(PARTS), help="Parts to run.")
def command(rounds: int, seconds: float, servers: int, endurance: float, only: str) -> None:
    """Measure the mesh beside bare gRPC and the usual stack."""
    parts = only.split(",")
    if unknown := set(parts) - set(PARTS):
        raise click.BadParameter(f"unknown part {', '.join(sorted(unknown))}", param_hint="--only")
    shutil.rmtree(RUN_DIR, ignore_errors=True)
    RUN_DIR.mkdir(parents=True)
    console = Console(width=max(Console().width, 150))
    results = asyncio.run(_measure(parts, rounds, seconds, servers, endurance, console))
    target = RUN_DIR / "results.json"
    target.write_text(json.dumps(results, indent=1) + "\n")
    (RUN_DIR / "tables.md").write_text(markdown(results))
    show(results, console)
    if "calls" in results:
        env = os.environ | {"PYTHONPATH": PATHS}
        subprocess.run([BENCH_PYTHON, "-m", "benchmarks.plot", target, RUN_DIR], check=True, env=env, cwd=ROOT)
    console.print(f"written: {target.relative_to(Path.cwd())}, tables.md and performance-*.svg beside it")


async def _measure(  # noqa: PLR0917
    parts: list[str], rounds: int, seconds: float, servers: int, endurance: float, console: Console
) -> dict[str, Any]:
    start = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - start:4.0f} s  {text}[/dim]")

    # The meshkit in this process (micro, growth) is to keep its log to itself.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    results: dict[str, Any] = {"machine": _machine(), "when": time.strftime("%Y-%m-%d %H:%M")}
    if "calls" in parts:
        results["calls"] = await compare(RUN_DIR / "calls", rounds=rounds, seconds=seconds, servers=servers, say=say)
    if "endurance" in parts:
        results["endurance"] = await endure(RUN_DIR / "endurance", seconds=endurance, servers=servers, say=say)
    if "micro" in parts:
        say("micro")
        results["micro"] = await micro(RUN_DIR / "micro")
    if "live" in parts:
        say("live")
        results["live"] = await _live()
    if "growth" in parts:
        results["growth"] = await growth(RUN_DIR / "growth", say)
    if "idle" in parts:
        say("idle")
        results["idle"] = await idle(RUN_DIR / "idle")
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
