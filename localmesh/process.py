"""Child processes that leave a log, say why they did not start, and never outlive their parent."""

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from localmesh.waiting import until

LEASH = Path(__file__).with_name("leash.py")
LAST_LINES = 12
ADDRESS_TAKEN = ("address already in use", "eaddrinuse", "failed to bind")

# Its writing end is held by this process alone, so that it ends with it. See leash.py.
_leash_pipe: tuple[int, int] | None = None


class StartError(Exception):
    """A part of the mesh did not start, or ended on its own; the text has the last lines of its log."""


class AddressTakenError(StartError):
    """A part did not start because another process has its port."""


class Process:
    """One supervised child process.

    Stdout and stderr go to `<run_dir>/<name>.log`, which a restart adds to. Nothing here is bound to an
    event loop, so that a process started in one may be used and stopped in another.

    Args:
        name: What to call it in messages; names the log file too.
        command: The program and its arguments.
        run_dir: The folder for the log; made when missing.
        env: Environment variables on top of this process's own.
        leash: How the child is tied to this process: "kernel" (Linux) or "watcher" (elsewhere).

    The child is tied to the *thread* that starts it; start it from one that lives as long as you need it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        run_dir: Path,
        env: Mapping[str, str] | None = None,
        leash: str = "kernel" if sys.platform == "linux" else "watcher",
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = run_dir / f"{name}.log"
        self._env = dict(env or {})
        self._leash = leash
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._started_at = 0.0

    @property
    def pid(self) -> int:
        """The process id of the running (or last) child."""
        return self._child.pid

    @property
    def status(self) -> int | None:
        """The exit status (negative: the signal that ended it), or None while it runs."""
        return self._child.poll()

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def _child(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._popen

    def spawn(self) -> None:
        """Start the child, without waiting until it is ready."""
        if self.running:
            raise RuntimeError(f"{self.name} already runs, as process {self.pid}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # The child leads a group of its own: a terminal's Ctrl-C reaches the parent only, which then
        # stops everything in order.
        with self.log.open("ab") as log:
            log.write(f"--- {time.strftime('%H:%M:%S')} {shlex.join(self.command)}\n".encode())
            log.flush()
            self._log_start = log.tell()
            pipe = _pipe_end()
            self._popen = subprocess.Popen(
                [sys.executable, "-I", "-S", LEASH, self._leash, str(os.getpid()), str(pipe), *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment() | self._env,
                start_new_session=True,
                pass_fds=() if self._leash == "kernel" else (pipe,),
            )
        self._started_at = time.monotonic()

    async def start(self, ready: Callable[[], Awaitable[object]], *, within: float) -> None:
        """Start the child and wait until `ready` no longer raises NotYetError.

        Args:
            ready: Asks whether the child is ready; raises NotYetError if not.
            within: Seconds that it may take.

        Raises:
            AddressTakenError: The child ended because its port is taken.
            StartError: The child ended, or was not ready in time. It is stopped then.
        """
        self.spawn()

        async def probe() -> None:
            if not self.running:
                raise self.ended_error()
            await ready()

        try:
            await until(probe, within=within, what=f"{self.name} ready")
        except BaseException as error:
            await self.kill()
            if isinstance(error, TimeoutError):
                raise StartError(f"{self.name} did not start: {error}; {self.last_words()}") from error
            raise

    async def wait(self) -> int:
        """Wait for the child's end and return its exit status (negative: the signal that ended it)."""
        child = self._child
        while (status := child.poll()) is None:
            await _end_hint(child.pid)
        return status

    async def stop(self, grace: float = 10.0) -> int:
        """Send SIGTERM, wait `grace` seconds for the end, then SIGKILL. Returns the exit status.

        A stopped (frozen) child is thawed first. If this is cancelled the child is killed at once.
        """
        if self._popen is None:
            return 0
        if not self.running:
            return self.status or 0
        try:
            self.send(signal.SIGTERM)
            self.thaw()
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            return await self.kill()
        finally:
            if self.running:
                self._kill_now()

    async def kill(self) -> int:
        """Send SIGKILL to the child and everything that it started, and wait for its end. Returns the exit status."""
        if self._popen is None:
            return 0
        try:
            self._signal_group(signal.SIGKILL)
            return await self.wait()
        finally:
            if self.running:
                self._kill_now()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child alone; nothing happens when it has ended."""
        if self.running:
            self._child.send_signal(number)

    def freeze(self) -> None:
        """Stop the child with SIGSTOP: it keeps its sockets and answers nothing."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen child go on."""
        self.send(signal.SIGCONT)

    def output(self) -> str:
        """What the running (or last) child has written so far."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def last_words(self) -> str:
        """The last lines of the child's log, as the end of an error message."""
        lines = self.output().rstrip().splitlines()[-LAST_LINES:]
        if not lines:
            return f"it wrote nothing to {self.log}"
        return "\n  ".join([f"the last lines of {self.log}:", *(line[:400] for line in lines)])

    def ended_error(self) -> StartError:
        """The error that says how the child ended, with its last words."""
        output = self.output().lower()
        kind = AddressTakenError if any(phrase in output for phrase in ADDRESS_TAKEN) else StartError
        after = time.monotonic() - self._started_at
        return kind(f"{self.name} {how_it_ended(self.status)} after {after:.1f} s; {self.last_words()}")

    async def __aenter__(self) -> Self:
        """Start the child."""
        self.spawn()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the child, if it still runs."""
        await self.stop()

    def _kill_now(self) -> None:
        """For when there is no time to await: kill, and take the status so that no zombie stays."""
        self._signal_group(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=2)

    def _signal_group(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


def how_it_ended(status: int | None) -> str:
    """An exit status in words: "ended with status 1", "was ended by SIGKILL"."""
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def child_environment() -> dict[str, str]:
    """This process's environment, with loopback kept away from any HTTP proxy.

    gRPC and others honour `http_proxy` even for 127.0.0.1.
    """
    env = dict(os.environ)
    for name in ("no_proxy", "NO_PROXY"):
        env[name] = ",".join(filter(None, [env.get(name), "127.0.0.1", "localhost"]))
    return env


def _pipe_end() -> int:
    global _leash_pipe  # noqa: PLW0603 - one pipe a process, for as long as it lives
    if _leash_pipe is None:
        _leash_pipe = os.pipe()
    return _leash_pipe[0]


async def _end_hint(pid: int) -> None:
    """Return when process `pid` may have ended: at once where the kernel tells, else within 50 ms."""
    if not hasattr(os, "pidfd_open"):
        await asyncio.sleep(0.05)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        await asyncio.sleep(0.05)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


__all__ = [
    "AddressTakenError",
    "Process",
    "StartError",
    "child_environment",
    "how_it_ended",
]
