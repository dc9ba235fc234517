"""What a project has released: an archive, or a program by itself."""

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
class Asset:
    """Where a released file is, and what it must be.

    Args:
        url: its address. An archive ends in `.tar.gz` or `.zip`; anything else is the program itself.
        sha256: its checksum.
    """

    url: str
    sha256: str


@dataclass(frozen=True)
class Release:
    """A file for each platform; the programs are taken out of an archive by their base names.

    Args:
        assets: by platform, as `platforms.current` names it.
        programs: what to take out; one, where the file is the program itself.
    """

    assets: Mapping[str, Asset]
    programs: tuple[str, ...]

    def fill(self, folder: Path, progress: Progress) -> None:
        """Download, verify and unpack this platform's file."""
        here = platforms.current()
        asset = self.assets.get(here)
        if asset is None:
            raise SourceUnavailableError(f"no release for {here}")
        name = PurePosixPath(asset.url).name
        # Under a name that is not a program's.
        packed = folder / f"download.{name}"
        try:
            _download(asset.url, packed, progress)
        except requests.RequestException as error:
            raise SourceUnavailableError(f"cannot download {asset.url}: {_plain(error)}") from error
        checksums.verify(packed, asset.sha256)
        missing = set(self.programs)
        for member, content in _members(packed, self.programs[0]):
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
        label = f"downloading {PurePosixPath(url).name}"
        meter = progress.step(label, total=float(size) if size else None, in_bytes=True)
        for chunk in answer.iter_content(_CHUNK):
            out.write(chunk)
            meter.reached(out.tell())


def _members(packed: Path, program: str) -> Iterator[tuple[str, IO[bytes]]]:
    if packed.name.endswith(".zip"):
        with zipfile.ZipFile(packed) as archive:
            for name in archive.namelist():
                with archive.open(name) as content:
                    yield name, content
    elif packed.name.endswith(".tar.gz"):
        with tarfile.open(packed) as archive:
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    yield member.name, file
    else:
        with packed.open("rb") as content:
            yield program, content


def _plain(error: requests.RequestException) -> str:
    """Say why in a few words; the library's own text repeats the address and names objects in memory."""
    if error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "no connection"
