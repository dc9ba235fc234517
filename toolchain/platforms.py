"""The machine's name in the spelling of Go's release archives: `linux-amd64`, `darwin-arm64`."""

from __future__ import annotations

import platform

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def current() -> str:
    """Name this machine's system and processor; one that Go names otherwise keeps its own name."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}"
