"""Reads pins.toml: every version, image and checksum that is pinned outside of the lock files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = Path(__file__).with_name("pins.toml")


@dataclass(frozen=True)
class Pin:
    """One table of pins.toml; what it does not have is empty.

    Args:
        version: what is fetched, built or run.
        oldest: the least version of a program on PATH that will do.
        image: the container image, its tag included where it has one.
        sha256: checksums of released files, by platform or by what the file is.
    """

    version: str
    oldest: str = ""
    image: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)


def load(file: Path = FILE) -> Mapping[str, Pin]:
    """Read every pin, by its table's name.

    Raises:
        TypeError: a table lacks its version, or has a key that `Pin` does not know.
        tomllib.TOMLDecodeError: the file is no TOML.
    """
    pins = {name: Pin(**table) for name, table in tomllib.loads(file.read_text("utf-8")).items()}
    return {
        name: Pin(pin.version, pin.oldest, pin.image.format(version=pin.version), pin.sha256)
        for name, pin in pins.items()
    }


PINS = load()
"""The pins of this checkout."""
