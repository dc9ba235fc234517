"""The rendered manifests against Kubernetes' own schemas, where an unknown field is an error."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest

from tests.support.chart import CHART, CI_VALUES, helm, render

# The oldest that Chart.yaml allows, the one that deploy/kind brings, and one in between.
MINORS = ("1.27", "1.31", "1.35")


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
def test_every_object_is_valid_strictly(values: Path, minor: str) -> None:
    for manifest in render(values, kubernetes=f"{minor}.0").all:
        try:
            # It falls back to an older minor where it lacks the one that it is asked for.
            assert kubernetes_validate.validate(manifest, minor, strict=True) == minor
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            pytest.fail(f"{manifest['kind']}/{manifest['metadata']['name']}: {path}: {error.message}")


def test_the_check_itself_finds_an_unknown_field() -> None:
    deployment = render().one("Deployment", "server")
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinessprobe"):
        kubernetes_validate.validate(deployment, MINORS[-1], strict=True)


@pytest.mark.parametrize("values", CI_VALUES, ids=lambda path: path.stem)
def test_helm_lint_is_clean(values: Path) -> None:
    report = helm("lint", "--strict", str(CHART), "--values", str(values), "--kube-version", "1.35.0")
    assert "[WARNING]" not in report
    assert "[ERROR]" not in report
