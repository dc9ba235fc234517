"""Chromium, driven by Playwright: the browser of this machine, never one that is fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

try:
    from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright
except ModuleNotFoundError:
    raise pytest.UsageError("these tests need Playwright beside .venv: run them with `make browser`") from None

from tests.browser.fake_feed import FakeAdmin

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# As root there is no sandbox; nothing is looked up, updated or reported by the browser itself.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
IMAGES = Path(__file__).parents[2] / "docs/images"
NOT_A_NUMBER = r"\b(NaN|undefined|Infinity|null|\[object)\b"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", action="store_true", help="write docs/images/page-*.png anew")


def executable() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise pytest.UsageError(
            f"no browser: none of {', '.join(NAMES)} is on the PATH (Debian: apt-get install chromium)"
        )
    return found


def pytest_configure(config: pytest.Config) -> None:
    executable()
    expect.set_options(timeout=30_000)


@dataclass
class Seen:
    """What a page asked for and complained of."""

    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()  # parts of complaints that a test provokes

    def watch(self, page: Page) -> None:
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.extend([said.text] * (said.type in {"error", "warning"})))

    def check(self, page: Page) -> None:
        """Nothing left the host, and nothing was complained of."""
        assert self.hosts - {""} <= {urlsplit(page.url).netloc}
        assert [said for said in self.complaints if not any(part in said for part in self.expected)] == []


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=executable(), args=FLAGS)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeAdmin]:
    with FakeAdmin() as admin:
        yield admin


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def page(chromium: Browser, seen: Seen) -> Iterator[Page]:
    """A page of 1280 by 900. At the end: no request left the host, no error was on the console."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        context.set_default_timeout(30_000)
        page = context.new_page()
        seen.watch(page)
        yield page
        seen.check(page)
