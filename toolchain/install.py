"""Leaves a tool in `.tools/`: a link to the program on PATH or in the user's cache."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from toolchain.errors import SourceUnavailableError, ToolchainError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from toolchain.cache import Cache
    from toolchain.progress import Progress
    from toolchain.tools import Tool


def install(tool: Tool, folder: Path, cache: Cache, progress: Progress) -> str:
    """Link a tool's files into a folder, fetching them into the cache first where needed.

    Args:
        tool: what to install.
        folder: `.tools`.
        cache: where fetched tools are kept.
        progress: shows long steps.

    Returns:
        What is installed and where it comes from, for the user.

    Raises:
        ToolchainError: no source delivers, a checksum differs, or the cache cannot be used.
    """
    reasons = []
    if tool.on_path is not None:
        # Else a `.tools/bin` that the user has on PATH would be linked to itself.
        elsewhere = _path_without(folder / "bin")
        try:
            version, programs = tool.on_path.find(lambda name: shutil.which(name, path=elsewhere))
        except SourceUnavailableError as error:
            reasons.append(str(error))
        else:
            _link(folder, {file: programs.get(file.rpartition("/")[2]) for file in tool.files})
            return f"{tool.name} {version} ({programs[tool.on_path.program]})"
    cached = _cached(tool, cache, progress, reasons)
    _link(folder, {file: cached / inside for file, inside in tool.files.items()})
    return f"{tool.name} {tool.version} ({cached})"


def _cached(tool: Tool, cache: Cache, progress: Progress, reasons: list[str]) -> Path:
    key = tool.key
    entry = cache.folder(key)
    with cache.locked(key, on_wait=lambda: progress.step(f"waiting for another set-up that fetches {tool.name}")):
        flaw = cache.flaw(key)
        if flaw is None:
            return entry
        if entry.exists():
            progress.step(f"{entry} is not used: {flaw}")
        for source in tool.sources:
            try:
                with cache.filling(key) as partial:
                    source.fill(partial, progress)
            except SourceUnavailableError as error:
                reasons.append(str(error))
            else:
                return entry
    raise ToolchainError(f"cannot get {tool.name} {tool.version}: {'; '.join(reasons)}. To go on: {tool.advice}")


def _link(folder: Path, targets: Mapping[str, Path | None]) -> None:
    """Link each file; one without a target is removed, so that no older version stays beside a newer one."""
    for file, target in targets.items():
        link = folder / file
        link.parent.mkdir(parents=True, exist_ok=True)
        if target is None:
            link.unlink(missing_ok=True)
            continue
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(link)


def _path_without(folder: Path) -> str:
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if os.path.realpath(entry) != os.path.realpath(folder))
