"""What the docs refer to is there: links, headings, paths, make's targets; generated pages are up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.modules import module_of

ROOT = Path(__file__).parents[3]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "deploy/**/*.md", "tests/**/*.md", ".github/*.md")
    for page in ROOT.glob(pattern)
)
FOLDERS = r"(?:meshkit|services|localmesh|toolchain|deploy|docs|tests|benchmarks|examples|proto|requirements)"


def names(pages: list[Path]) -> list[str]:
    return [str(page.relative_to(ROOT)) for page in pages]


def text_of(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    text = text_of(page)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from re.findall(r'(?:src|srcset|href)="([^"]+)"', text)


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} in {page.name}"
        if anchor:
            assert anchor in anchors(target), f"{link} in {page.name}: {target.name} has {sorted(anchors(target))}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_paths_in_code_style_are_there(page: Path) -> None:
    for path in re.findall(rf"`({FOLDERS}/[\w./-]*)`", page.read_text()):
        if "NAME" not in path:
            assert (ROOT / path).exists() or (page.parent / path).exists(), f"{path} in {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_targets_of_make_are_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = re.findall(r"(?:^ *|`)make (?:[A-Z]+=\S* )*([a-z0-9-]+)", page.read_text(), re.MULTILINE)
    assert set(commands) <= targets


def test_the_flags_page_is_what_the_programs_say() -> None:
    generator = module_of(ROOT / "services/document_flags.py")
    assert generator.PAGE.read_text() == generator.document(), "run 'make flag-docs' and commit the result"


def test_each_event_that_tells_of_trouble_has_a_row_in_the_troubleshooting() -> None:
    events = json.loads((ROOT / "tests/golden/log_events.json").read_text())
    of_trouble = {
        event
        for event, shapes in events.items()
        if any(shape.split(":")[0] in {"warning", "error", "exception"} for shape in shapes)
    }
    rows = [line for line in (ROOT / "docs/troubleshooting.md").read_text().splitlines() if line.startswith("|")]
    # Of calls, the rows are by error.
    symptoms = {symptom for row in rows for symptom in re.findall("`([^`]*)`", row.split("|")[1])}
    assert sorted(of_trouble - symptoms - {"call"}) == []


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
