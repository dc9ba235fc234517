"""`python -m localmesh demo` as a process, and what it starts."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from localmesh.waiting import NotYetError, until

COMMAND = [sys.executable, "-m", "localmesh", "demo"]


@contextmanager
def demo(log: Path, *flags: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*COMMAND, *flags],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | (env or {}),
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def descendants(pid: int) -> list[int]:
    """All processes below one, by /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        children = [child for child, its_parent in parents.items() if its_parent == parent]
        found += children
        todo += children
    return found


async def all_gone(pids: list[int]) -> None:
    def alive(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    async def probe() -> None:
        if left := [pid for pid in pids if alive(pid)]:
            raise NotYetError(str(left))

    await until(probe, within=20, what="the demo's processes gone")


async def wait_for(log: Path, text: str, *, within: float = 90) -> None:
    async def probe() -> None:
        if text not in log.read_text():
            raise NotYetError(log.read_text())

    await until(probe, within=within, what=f"{text!r} in the output")


class Terminal:
    """A demo in a terminal of its own: what it shows, and keys for it."""

    def __init__(self, *flags: str) -> None:
        self._keyboard, screen = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, *flags], stdin=screen, stdout=screen, stderr=screen, start_new_session=True
        )
        os.close(screen)
        os.set_blocking(self._keyboard, False)
        self._shown = ""

    def type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    async def wait_shown(self, text: str, *, within: float) -> None:
        """Wait until the text is shown after the one that was waited for before."""

        async def probe() -> None:
            # EIO: the demo has ended.
            with contextlib.suppress(BlockingIOError, OSError):
                self._shown += os.read(self._keyboard, 100_000).decode(errors="replace")
            before, found, after = self._shown.partition(text)
            if not found:
                raise NotYetError(before[-500:])
            self._shown = after

        await until(probe, within=within, what=f"{text!r} on the terminal")

    async def wait_ended(self, *, within: float) -> int:
        async def probe() -> int:
            with contextlib.suppress(BlockingIOError, OSError):
                os.read(self._keyboard, 100_000)
            if (status := self.process.poll()) is None:
                raise NotYetError("it runs")
            return status

        return await until(probe, within=within, what="the demo's end")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)
