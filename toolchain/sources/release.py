"""A project's official release archive."""

from __future__ import annotations

import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING

import requests

from toolchain import checksums, platforms
from toolchain.errors import ChecksumError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from toolchain.progress import Progress

_CONNECT_TIMEOUT = 4.0
"""Seconds: a network that cannot reach the archive's host should cost little before the next source."""
_READ_TIMEOUT = 30.0
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Archive:
    """Where an archive is, and what it must be.

    Args:
        url: its address; ends in `.tar.gz` or `.zip`.
        sha256: its checksum.
    """

    url: str
    sha256: str


@dataclass(frozen=True)
class ReleaseArchive:
    """An archive for each platform; the programs are taken out of it by their base names.

    Args:
        archives: by platform, as `platforms.current` names it.
        programs: what to take out.
    """

    archives: Mapping[str, Archive]
    programs: tuple[str, ...]

    def fill(self, folder: Path, progress: Progress) -> None:
        """Download, verify and unpack this platform's archive."""
        here = platforms.current()
        archive = self.archives.get(here)
        if archive is None:
            raise SourceUnavailableError(f"no release archive for {here}")
        name = PurePosixPath(archive.url).name
        packed = folder / name
        try:
            _download(archive.url, packed, progress)
        except requests.RequestException as error:
            raise SourceUnavailableError(f"cannot download {archive.url}: {_plain(error)}") from error
        checksums.verify(packed, archive.sha256)
        missing = set(self.programs)
        for member, content in _members(packed):
            program = PurePosixPath(member).name
            if program in missing:
                missing.remove(program)
                (folder / program).write_bytes(content.read())
                (folder / program).chmod(0o755)
        packed.unlink()
        if missing:
            raise ChecksumError(f"{name} has no {', '.join(sorted(missing))}: correct the tool's list of programs")


def _download(url: str, target: Path, progress: Progress) -> None:
    with requests.get(url, stream=True, timeout=(_CONNECT_TIMEOUT, _READ_TIMEOUT)) as answer, target.open("wb") as out:
        answer.raise_for_status()
        size = answer.headers.get("Content-Length")
        meter = progress.step(f"downloading {target.name}", total=float(size) if size else None, in_bytes=True)
        for chunk in answer.iter_content(_CHUNK):
            out.write(chunk)
            meter.reached(out.tell())


def _members(packed: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if packed.name.endswith(".zip"):
        with zipfile.ZipFile(packed) as archive:
            for name in archive.namelist():
                with archive.open(name) as content:
                    yield name, content
    else:
        with tarfile.open(packed) as archive:
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    yield member.name, file


def _plain(error: requests.RequestException) -> str:
    """Say why in a few words; the library's own text repeats the address and names objects in memory."""
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "no connection"
