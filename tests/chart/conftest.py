"""What the chart makes of its own values, and of each set of values in ci/."""

import pytest

from tests.support.chart import CI_VALUES, Rendered, render


@pytest.fixture(scope="session")
def default() -> Rendered:
    """The release without any values given."""
    return render()


@pytest.fixture(params=CI_VALUES, ids=lambda path: path.stem.removesuffix("-values"))
def each(request: pytest.FixtureRequest) -> Rendered:
    """The release with each of the values files of ci/."""
    return render(request.param)
