import asyncio
import sys

import pytest

from meshkit import run_async


async def loops_package() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


def test_programs_run_on_uvloop() -> None:
    pytest.importorskip("uvloop")
    assert run_async(loops_package()) == "uvloop"


def test_without_uvloop_they_run_on_asyncios_own_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run_async(loops_package()) == "asyncio"
