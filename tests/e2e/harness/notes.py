"""The commands that NOTES.txt gives, read out of it."""

import shlex

__all__ = ["commands_in"]


def commands_in(notes: str) -> list[list[str]]:
    """Every command: the lines that are indented and begin with a program's name."""
    lines = [line.strip() for line in notes.splitlines() if line.startswith("  ")]
    return [shlex.split(line) for line in lines if line.split(" ")[0] in ("kubectl", "helm", "make", "curl")]
