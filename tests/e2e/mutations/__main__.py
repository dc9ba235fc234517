"""`make e2e-mutations`: run the e2e tests on mutants of the images; succeeds only if each one is caught.

    python -m tests.e2e.mutations [MUTANT]...

Like `make e2e`, it makes a cluster and takes it away again; KEEP=1 keeps it, and takes one that was kept. E2E_CLUSTER
names it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from deploy.kind import docker
from deploy.kind.cluster import load, nodes
from deploy.kind.errors import StepError
from deploy.kind.settings import ROOT, program_images
from deploy.kind.steps import reporting, step
from deploy.kind.temporary import temporary_cluster
from tests.e2e.mutations.catch import MUTANTS, Catch, Mutant, catch_in
from toolchain.command import run
from toolchain.interruption import Interruptions

HERE = Path(__file__).parent
REPORTS = ROOT / ".run/e2e-mutations"
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
# Seconds that the tests of one mutant may take: they wait out what never comes.
PATIENCE = 600


def make_images(mutant: Mutant, cluster: str, images: dict[str, str]) -> None:
    """Build a mutant's images and load them into the cluster.

    Args:
        mutant: what is broken.
        cluster: its name.
        images: the mutant's images, each by the one that it is made from.

    Raises:
        StepError: one cannot be built or loaded.
    """
    with step(f"images without {mutant.broken}") as making:
        for image, made in images.items():
            arguments = ["--build-arg", f"IMAGE={image}", "--build-arg", f"MUTANT={mutant.name}", "--tag", made]
            making.run(
                "docker", "build", "--file", HERE / "Dockerfile", *arguments, mutant.file.parent, env=docker.BUILDER
            )
        load(making, docker.engine(), cluster, [*images.values()], nodes(cluster))


def run_tests(mutant: Mutant) -> Catch | None:
    """Run a mutant's tests on it; what caught it.

    Raises:
        OSError, ValueError: no test ran, or not to its end.
    """
    report = REPORTS / f"{mutant.name}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", *mutant.tests, "-q", f"--junitxml={report}"]
    environment = {"BOOKMESH_E2E_TAG": mutant.tag, "BOOKMESH_E2E_RUN": str(REPORTS / mutant.name)}
    with (REPORTS / f"{mutant.name}.log").open("w") as log:
        run(command, lambda line: print(line, file=log, flush=True), cwd=ROOT, env=environment, timeout=PATIENCE)
    return catch_in(report, mutant.reason)


def tried(mutant: Mutant, cluster: str) -> Catch | str:
    """Make a mutant and run its tests; what caught it, or why nothing did."""
    images = {image: f"{image.rpartition(':')[0]}:{mutant.tag}" for image in program_images()}
    try:
        make_images(mutant, cluster, images)
        return run_tests(mutant) or f"survived: all its tests passed; see {REPORTS / mutant.name}.log"
    except (OSError, ValueError, StepError) as error:
        return f"not known: {error}"
    finally:
        docker.ask("image", "rm", *(made for made in images.values() if docker.image_id(made)))


@click.command()
@click.argument("mutants", nargs=-1, type=click.Choice(list(BY_NAME)))
def main(mutants: tuple[str, ...]) -> None:
    """Run the e2e tests on MUTANTS (all by default)."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    chosen = [BY_NAME[name] for name in mutants or BY_NAME]
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("switched off", "caught by", "its message"):
        table.add_column(column, overflow="fold")
    missed = 0
    with reporting("mutations"), Interruptions() as interruptions, temporary_cluster(interruptions) as cluster:
        for mutant in chosen:
            click.echo(f"without {mutant.broken} …", err=True)
            with interruptions.armed():
                result = tried(mutant, cluster)
            if isinstance(result, Catch):
                table.add_row(mutant.broken, result.test, result.line)
            else:
                missed += 1
                table.add_row(mutant.broken, "nothing", result.replace(f"{ROOT}/", ""))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if missed:
        click.echo(f"{missed} of {len(chosen)} mutants were not caught", err=True)
        sys.exit(1)
    click.echo(f"{len(chosen)} mutants, all caught")


if __name__ == "__main__":
    main()
