"""Tools that are fetched: what was released, checked, in a cache that knows what an entry was made from."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from toolchain import platforms
from toolchain.cache import Cache
from toolchain.errors import ChecksumError, SourceUnavailableError, ToolchainError
from toolchain.install import install
from toolchain.progress import showing
from toolchain.sources.go import GoModule
from toolchain.sources.release import Asset, Release
from toolchain.tools import TOOLS, Tool

PROGRAM = b"#!/bin/sh\necho fetched\n"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A project's releases: a program, and the same in an archive."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "tool-1.0").write_bytes(PROGRAM)
    with tarfile.open(folder / "tool-1.0.tar.gz", "w:gz") as archive:
        for name, content in (("tool-1.0/README", b"read me"), ("tool-1.0/tool", PROGRAM)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def released(url: str, content: bytes) -> Release:
    return Release({platforms.current(): Asset(url, hashlib.sha256(content).hexdigest())}, ("tool",))


def fetched(release: Release, folder: Path) -> Path:
    folder.mkdir()
    with showing() as progress:
        release.fill(folder, progress)
    assert [file.name for file in folder.iterdir()] == ["tool"]
    return folder / "tool"


@pytest.mark.parametrize("file", ["tool-1.0", "tool-1.0.tar.gz"])
def test_a_released_program_is_fetched_by_itself_or_out_of_its_archive(site: str, tmp_path: Path, file: str) -> None:
    program = fetched(released(f"{site}/{file}", (tmp_path / "site" / file).read_bytes()), tmp_path / "cache")
    assert program.read_bytes() == PROGRAM
    assert program.stat().st_mode & 0o111


@pytest.mark.parametrize("file", ["tool-1.0", "tool-1.0.tar.gz"])
def test_a_file_with_another_checksum_is_refused(site: str, tmp_path: Path, file: str) -> None:
    with pytest.raises(ChecksumError):
        fetched(released(f"{site}/{file}", b"what was pinned"), tmp_path / "cache")


def test_a_release_that_is_not_there_leaves_the_next_source_to_be_tried(site: str, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="HTTP status 404"):
        fetched(released(f"{site}/tool-2.0", PROGRAM), tmp_path / "cache")
    with pytest.raises(SourceUnavailableError, match="no release for"):
        fetched(Release({"plan9-mips": Asset(f"{site}/tool-1.0", "")}, ("tool",)), tmp_path / "other")


def test_a_tool_that_no_source_delivers_is_one_line_with_every_reason_and_a_way_on(site: str, tmp_path: Path) -> None:
    gone = (released(f"{site}/tool-2.0", PROGRAM), released(f"{site}/tool-3.0", PROGRAM))
    tool = Tool("tool", "2.0", {"bin/tool": "tool"}, None, gone, "put tool on PATH")
    reasons = r"cannot get tool 2\.0: .*2\.0.*404; .*3\.0.*404\. To go on: put"
    with pytest.raises(ToolchainError, match=reasons) as error, showing() as progress:
        install(tool, tmp_path / "tools", Cache(tmp_path / "cache"), progress)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "programs.go"])
def test_a_cached_tool_is_built_again_when_the_module_that_pins_its_dependencies_changes(
    tmp_path: Path, file: str
) -> None:
    tool = TOOLS["kube-router"]
    (source,) = tool.sources
    assert isinstance(source, GoModule)
    copied = tmp_path / "kube-router"
    shutil.copytree(source.directory, copied)
    moved = dataclasses.replace(tool, sources=(dataclasses.replace(source, directory=copied),))
    assert moved.key == tool.key, "it is the content that counts"
    with (copied / file).open("a") as changed:
        changed.write("\n// a dependency's security release\n")
    assert moved.key != tool.key
