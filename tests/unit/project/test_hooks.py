"""The commit hooks are what `make lint` runs: the same programs, versions and arguments."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import yaml

from toolchain.tools import TOOLS

ROOT = Path(__file__).parents[3]
HOOKS: list[dict[str, Any]] = [
    hook
    for repository in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in repository["hooks"]
]


def commands_of_make_lint() -> list[list[str]]:
    """The programs of the recipe with their options, without folders and files."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    commands = []
    for line in recipe[1].splitlines():
        command = line.rpartition("xargs -0 ")[2] if "xargs" in line else line.strip().removeprefix("@")
        words = [
            word.rpartition("/")[2] if "/bin/" in word or "(BIN)/" in word else word for word in shlex.split(command)
        ]
        commands.append([word for word in words if word not in {".", ".github/workflows"}])
    return commands


def test_each_hook_has_the_version_that_is_locked() -> None:
    locked = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "requirements/dev.lock").read_text(), re.MULTILINE))
    actionlint = TOOLS["actionlint"].version
    for hook in HOOKS:
        (pinned,) = hook["additional_dependencies"]
        if hook["language"] == "golang":
            assert pinned == f"github.com/rhysd/actionlint/cmd/actionlint@v{actionlint}"
        else:
            name, _, version = pinned.partition("==")
            assert version == locked[name], f"{hook['id']} of .pre-commit-config.yaml, beside requirements/dev.lock"


def test_make_lint_and_the_hooks_run_the_same_commands() -> None:
    # What only one of them has: pre-commit hands in files that ruff is to leave out, make its own shellcheck.
    once = {"--force-exclude", "-shellcheck", "shellcheck"}
    hooks = [[hook["entry"].split()[0], *(set(hook["entry"].split()[1:]) - once)] for hook in HOOKS]
    lint = [[command[0], *(set(command[1:]) - once)] for command in commands_of_make_lint()]
    assert sorted(map(sorted, lint)) == sorted(map(sorted, hooks))
