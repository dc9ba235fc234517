"""Writes docs/values.md, the table of the chart's values, from the comments in its values.yaml.

A comment that starts with `# --` describes the key below it; lines of the same comment go on with it. A key with a
description is one row of the table, with everything below it; without one it has to be a section.

    python deploy/helm/document_values.py [--check]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "bookmesh"
TABLE = Path(__file__).parents[2] / "docs" / "values.md"
HEADING = """# The chart's values

Generated from [values.yaml](../deploy/helm/bookmesh/values.yaml) by `make chart-docs`.

| Value | Default | |
|---|---|---|
"""


def rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Path, default as JSON, and description of each value.

    Raises:
        ValueError: a value has no description.
    """
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    yield from _section(root, text.splitlines(), "")


def _section(section: yaml.MappingNode, lines: list[str], path: str) -> Iterator[tuple[str, str, str]]:
    for key, value in section.value:
        name = f"{path}{key.value}"
        description = _above(lines, key.start_mark.line)
        if description:
            yield name, json.dumps(yaml.safe_load(yaml.serialize(value)), ensure_ascii=False), description
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from _section(value, lines, f"{name}.")
        else:
            raise ValueError(f"values.yaml:{key.start_mark.line + 1}: {name} has no description (a comment with # --)")


def _above(lines: list[str], line: int) -> str:
    """The description in the comment that ends above a line; "" where there is none."""
    comment: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        comment.insert(0, lines[line].lstrip().removeprefix("#").strip())
        if comment[0].startswith("--"):
            return " ".join(comment).removeprefix("--").strip()
    return ""


def document(text: str) -> str:
    """The whole page."""
    cells = (
        f"| `{path}` | `{default}` | {description.replace('|', chr(92) + '|')} |"
        for path, default, description in rows(text)
    )
    return HEADING + "\n".join(cells) + "\n"


def main() -> None:
    """Write the page; with --check, fail where it is not what would be written."""
    page = document((CHART / "values.yaml").read_text())
    if sys.argv[1:] != ["--check"]:
        TABLE.write_text(page)
    elif not TABLE.exists() or TABLE.read_text() != page:
        sys.exit("docs/values.md is not what values.yaml says: run 'make chart-docs' and commit the result")
    else:
        print("docs/values.md is up to date")


if __name__ == "__main__":
    main()
