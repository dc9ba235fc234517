"""The live page's files: what they refer to is there, nothing comes from elsewhere, what is vendored is unchanged."""

import hashlib
import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "meshkit/admin/page"
# Of uplot 1.6.32 as npm has it: dist/uPlot.iife.min.js, dist/uPlot.min.css, LICENSE.
VENDORED = {
    "uPlot-1.6.32.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot-1.6.32.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uPlot-1.6.32.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
OURS = sorted(path for path in PAGE.iterdir() if path.name not in VENDORED)


def test_vendored_files_are_as_published() -> None:
    assert {name: hashlib.sha256((PAGE / name).read_bytes()).hexdigest() for name in VENDORED} == VENDORED


def test_each_file_is_used_and_each_used_file_is_there() -> None:
    assets = set(re.findall(r'(?:src|href)="assets/([^"]+)"', (PAGE / "index.html").read_text()))
    modules = {name for path in OURS for name in re.findall(r'from "\./([^"]+)"', path.read_text())}
    kept = {path.name for path in PAGE.iterdir()} - {"index.html", "uPlot-1.6.32.LICENSE"}
    assert assets | modules == kept


def test_nothing_comes_from_elsewhere() -> None:
    # A namespace of SVG is a name, not an address.
    found = {path.name: re.findall(r"https?://[\w.-]+", path.read_text()) for path in OURS}
    assert {name: addresses for name, addresses in found.items() if set(addresses) - {"http://www.w3.org"}} == {}


def test_what_a_feed_says_is_never_markup() -> None:
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function"
    assert [path.name for path in OURS if path.suffix == ".js" and re.search(ways, path.read_text())] == ["dom.js"]
    assert "innerHTML" in (PAGE / "dom.js").read_text().splitlines()[0]  # in its comment
    assert not re.search(ways, (PAGE / "dom.js").read_text().split("\n", 1)[1])
