"""The event loop of a program, and what signals do to it."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from meshkit import run_async, stop_signal

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


async def loops_package() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


def test_programs_run_on_uvloop() -> None:
    pytest.importorskip("uvloop")
    assert run_async(loops_package()) == "uvloop"


def test_without_uvloop_they_run_on_asyncios_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_async(loops_package()) == "asyncio"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_the_first_signal_is_an_event_and_the_second_the_end(
    number: signal.Signals, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loop == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)

    async def program() -> None:
        with stop_signal() as stop:
            os.kill(os.getpid(), number)
            async with asyncio.timeout(10):
                await stop.wait()
            assert ends == []
            # A loop that is blocked hears it, too: this one does not run meanwhile.
            os.kill(os.getpid(), number)
            assert ends == [128 + number]

    before = [signal.getsignal(each) for each in SIGNALS]
    run_async(program())
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_hangup_that_is_ignored_stays_ignored() -> None:
    async def program() -> None:
        with stop_signal() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            assert not stop.is_set()

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run_async(program())
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("package", ["book_server", "book_client"])
def test_a_program_handles_signals_before_it_imports_what_takes_long(package: str) -> None:
    code = (
        f"import sys, {package}; {package}.end_at_signals(); print(*{{'meshkit', 'grpc', 'click'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "\n"
