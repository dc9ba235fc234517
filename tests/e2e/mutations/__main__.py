"""`make e2e-mutations`: run the e2e tests on mutants of the images; succeeds only if each one is caught.

    python -m tests.e2e.mutations [--cluster NAME] [MUTANT]...

The cluster has to be there, with the images of both programs in the machine's docker.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from tests.e2e.mutations.catch import MUTANTS, Catch, Mutant, catch_in

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
REPORTS = ROOT / ".run/e2e-mutations"
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
# Seconds that the tests of one mutant may take: they wait out what never comes.
PATIENCE = 600


def images() -> list[str]:
    """Both programs' images, as the chart names them."""
    chart = ROOT / "deploy/helm/bookmesh"
    version = yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"]
    values = yaml.safe_load((chart / "values.yaml").read_text())
    return [f"{values[program]['image']['repository']}:{version}" for program in ("server", "client")]


def make_images(mutant: Mutant, cluster: str) -> list[str]:
    """Build a mutant's images and load them into the cluster; their names."""
    made = []
    for image in images():
        name = f"{image.rpartition(':')[0]}:{mutant.tag}"
        build = ["docker", "build", "--quiet", "--tag", name, "--file", str(HERE / "Dockerfile")]
        arguments = [f"--build-arg=IMAGE={image}", f"--build-arg=MUTANT={mutant.name}"]
        subprocess.run([*build, *arguments, str(mutant.file.parent)], check=True, stdout=subprocess.DEVNULL)
        made.append(name)
    kind = [str(ROOT / ".tools/bin/kind"), "load", "docker-image", "--name", cluster]
    subprocess.run([*kind, *made], check=True, stderr=subprocess.DEVNULL)
    return made


def run_tests(mutant: Mutant) -> Catch | None:
    """Run a mutant's tests on it; what caught it.

    Raises:
        OSError, ValueError: no test ran.
    """
    report = REPORTS / f"{mutant.name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *mutant.tests, "-q", f"--junitxml={report}"]
    with (REPORTS / f"{mutant.name}.log").open("w") as log:
        subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"BOOKMESH_E2E_TAG": mutant.tag, "BOOKMESH_E2E_RUN": str(REPORTS / mutant.name)},
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    return catch_in(report, mutant.reason)


def tried(mutant: Mutant, cluster: str) -> Catch | str:
    """Make a mutant and run its tests; what caught it, or why nothing did."""
    made: list[str] = []
    try:
        made = make_images(mutant, cluster)
        return run_tests(mutant) or f"survived: no test failed for this; see {REPORTS / mutant.name}.log"
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"not tried: {error}"
    finally:
        if made:
            subprocess.run(["docker", "rmi", *made], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@click.command()
@click.argument("mutants", nargs=-1, type=click.Choice(list(BY_NAME)))
@click.option("--cluster", default="bookmesh", show_default=True, help="Name of the kind cluster.")
def main(mutants: tuple[str, ...], cluster: str) -> None:
    """Run the e2e tests on MUTANTS (all by default)."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("switched off", "caught by", "its message"):
        table.add_column(column, overflow="fold")
    missed = 0
    for name in mutants or BY_NAME:
        mutant = BY_NAME[name]
        click.echo(f"without {mutant.broken} …", err=True)
        result = tried(mutant, cluster)
        if isinstance(result, Catch):
            table.add_row(mutant.broken, result.test, result.line)
        else:
            missed += 1
            table.add_row(mutant.broken, "nothing", result.replace(f"{ROOT}/", ""))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if missed:
        click.echo(f"{missed} of {len(mutants or BY_NAME)} mutants were not caught", err=True)
        sys.exit(1)
    click.echo(f"{len(mutants or BY_NAME)} mutants, all caught")


if __name__ == "__main__":
    main()
