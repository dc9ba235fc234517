"""The two distributions: the programs', and the toolkit's own."""

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]


def project(path: str) -> dict[str, Any]:
    answer: dict[str, Any] = tomllib.loads((ROOT / path).read_text())["project"]
    return answer


def test_the_toolkits_is_of_the_same_version_and_asks_for_no_more() -> None:
    programs, toolkit = project("pyproject.toml"), project("meshkit/pyproject.toml")
    assert toolkit["version"] == programs["version"]
    assert toolkit["requires-python"] == programs["requires-python"]
    names = {requirement.partition(">=")[0].partition("==")[0] for requirement in programs["dependencies"]}
    asked = [*toolkit["dependencies"], *(each for extra in toolkit["optional-dependencies"].values() for each in extra)]
    # The programs' Zipkin package brings its JSON twin.
    assert {each.partition(">=")[0] for each in asked} <= names | {"opentelemetry-exporter-zipkin-json"}
    # What is pinned for the programs' sake is not pinned here.
    assert not [each for each in asked if "==" in each or "<" in each]
