"""docs/values.md and the comments in values.yaml that it is made of."""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.support.chart import ROOT
from tests.support.modules import module_of


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return module_of(ROOT / "deploy/helm/document_values.py")


def test_the_committed_table_is_what_the_values_say(generator: ModuleType) -> None:
    assert generator.TABLE.read_text() == generator.document((generator.CHART / "values.yaml").read_text())


def test_a_description_may_go_on_over_lines_and_covers_all_below_its_key(generator: ModuleType) -> None:
    text = "server:\n  # -- Of the pods,\n  # all of them.\n  labels: {a: b}\n"
    assert list(generator.rows(text)) == [("server.labels", '{"a": "b"}', "Of the pods, all of them.")]


def test_a_value_without_a_description_is_refused(generator: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"values.yaml:3: server.rate has no description"):
        list(generator.rows("server:\n  # an aside\n  rate: 1\n"))
