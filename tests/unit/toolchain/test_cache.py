"""The user's cache: what a crash, a full disk or another user left in it is never used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from toolchain import manifest
from toolchain.cache import Cache
from toolchain.errors import CacheError, ToolchainError
from toolchain.install import install
from toolchain.progress import showing
from toolchain.tools import Tool

PROGRAM = b"#!/bin/sh\necho here\n"


class Made:
    """A source that makes the tool, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def fill(self, folder: Path, _: object) -> None:
        self.times += 1
        (folder / "lib").mkdir()
        (folder / "lib/data").write_bytes(b"data" * 1000)
        (folder / "tool").write_bytes(PROGRAM)
        (folder / "tool").chmod(0o755)


def installed(source: Made, folder: Path) -> Path:
    tool = Tool("tool", "1.0", {"bin/tool": "tool"}, None, (source,), "despair")
    with showing() as progress:
        install(tool, folder / "tools", Cache(folder / "cache"), progress)
    return folder / "tools/bin/tool"


def replaced_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replaced_by_a_link(file: Path) -> None:
    file.unlink()
    file.symlink_to("gone")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a program of 0 bytes": lambda entry: (entry / "tool").write_bytes(b""),
    "a program cut short": lambda entry: os.truncate(entry / "tool", 10),
    "a program changed, of the same length": lambda entry: (entry / "tool").write_bytes(PROGRAM[::-1]),
    "a program that may not be run": lambda entry: (entry / "tool").chmod(0o644),
    "a program that is gone": lambda entry: (entry / "tool").unlink(),
    "a folder in its place": lambda entry: replaced_by_a_folder(entry / "tool"),
    "a link that leads nowhere": lambda entry: replaced_by_a_link(entry / "tool"),
    "another file cut short": lambda entry: os.truncate(entry / "lib/data", 3999),
    "a file too many": lambda entry: (entry / "lib/more").write_bytes(b"more"),
    "no manifest": lambda entry: (entry / manifest.NAME).unlink(),
    "a manifest of 0 bytes": lambda entry: (entry / manifest.NAME).write_bytes(b""),
    "a manifest of other bytes": lambda entry: (entry / manifest.NAME).write_bytes(b"\xff\x00 \n\n"),
    "a manifest of one line less": lambda entry: (entry / manifest.NAME).write_text(
        (entry / manifest.NAME).read_text().splitlines()[0] + "\n"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_entry_that_is_not_what_was_put_there_is_made_again(tmp_path: Path, damage: str) -> None:
    source = Made()
    program = installed(source, tmp_path)
    DAMAGES[damage](tmp_path / "cache/tool-1.0")
    assert installed(source, tmp_path).read_bytes() == PROGRAM
    assert os.access(program, os.X_OK)
    assert source.times == 2
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"tool-1.0", "tool-1.0.lock"}


def test_a_whole_entry_is_used_as_it_is(tmp_path: Path) -> None:
    source = Made()
    assert installed(source, tmp_path).read_bytes() == installed(source, tmp_path).read_bytes() == PROGRAM
    assert source.times == 1


def test_a_file_where_the_entry_should_be_gives_way(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache/tool-1.0").write_text("not a folder")
    assert installed(Made(), tmp_path).read_bytes() == PROGRAM


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's folder takes root to make")
def test_an_entry_of_another_user_is_made_again(tmp_path: Path) -> None:
    source = Made()
    installed(source, tmp_path)
    os.chown(tmp_path / "cache/tool-1.0", 12345, 12345)
    installed(source, tmp_path)
    assert source.times == 2


def test_what_was_half_filled_is_not_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    with cache.locked("key"):
        with contextlib.suppress(KeyboardInterrupt), cache.filling("key") as folder:
            (folder / "tool").write_bytes(PROGRAM)
            raise KeyboardInterrupt
        assert cache.flaw("key") == "it is not there"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["key.lock"]


def test_files_reach_the_disk_before_the_entry_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def fsync(descriptor: int) -> None:
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def rename(path: Path, target: Path) -> Path:
        events.append("renamed")
        os.rename(path, target)  # noqa: PTH104 - Path.rename is what is replaced
        return target

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc to read a descriptor's file from")
    cache = Cache(tmp_path / "cache")
    with cache.locked("key"), cache.filling("key") as folder:
        (folder / "tool").write_bytes(PROGRAM)
    before, after = events[: events.index("renamed")], events[events.index("renamed") + 1 :]
    assert {"tool", manifest.NAME} < set(before), "each file, and the folder"
    assert len(before) == 3
    assert after == ["cache"], "the name itself"


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777, 0o702])
def test_a_folder_that_others_may_write_to_is_refused_in_one_line(tmp_path: Path, mode: int) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(mode)
    with pytest.raises(CacheError, match=r"others may write to .*chmod go-w") as error:
        installed(Made(), tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_of_another_user_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").mkdir()
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.raises(CacheError, match=r"belongs to .*XDG_CACHE_HOME"):
        installed(Made(), tmp_path)


@pytest.mark.parametrize("obstacle", ["a file", "a folder as the lock", "a link as the lock"])
def test_what_is_in_the_way_is_one_line(tmp_path: Path, obstacle: str) -> None:
    cache = tmp_path / "cache"
    if obstacle == "a file":
        cache.write_text("")
    elif obstacle == "a folder as the lock":
        (cache / "tool-1.0.lock").mkdir(parents=True)
    else:
        cache.mkdir()
        (cache / "tool-1.0.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ToolchainError, match="XDG_CACHE_HOME") as error:
        installed(Made(), tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "elsewhere").exists()
