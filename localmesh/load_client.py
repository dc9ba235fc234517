"""A load client in a process of its own, commanded by JSON lines (see benchmarks/load.py)."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Self

from localmesh.components import ROOT
from localmesh.process import child_environment

__all__ = ["PATHS", "LoadClient"]

# For programs that run from the repository without being installed.
PATHS = os.pathsep.join(str(ROOT / folder) for folder in (".", "proto", "services/book-server"))


class LoadClient:
    """A load client's process, and the way to command it.

    Args:
        python: The interpreter.
        module: What it runs, e.g. `benchmarks.ours`.
        arguments: Of the module.
    """

    def __init__(self, python: str | Path, module: str, *arguments: str) -> None:
        self._command = [str(python), "-m", module, *arguments]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=child_environment() | {"PYTHONPATH": PATHS},
            cwd=ROOT,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End its standard input, and with it the client."""
        process = self._running
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(15):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    @property
    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("not entered")
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._running.pid

    async def command(self, **command: Any) -> dict[str, Any]:
        """Have it do something; its answer."""
        process = self._running
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(command).encode() + b"\n")
        await process.stdin.drain()
        while line := await process.stdout.readline():
            # What is not an answer is the mesh's log.
            if (answer := json.loads(line)) and "event" not in answer:
                return dict(answer)
        raise RuntimeError(f"{' '.join(self._command)} ended with status {await process.wait()}")
