"""`make e2e-mutations`: run the e2e tests on mutants of the images; succeeds only if each one is caught.

    python -m tests.e2e.mutations [MUTANT]...

Like `make e2e`, it makes a cluster and takes it away again; KEEP=1 keeps it, and takes one that was kept. E2E_CLUSTER
names it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
CLUSTER = os.environ.get("E2E_CLUSTER", "bookmesh-e2e")
KUBECONFIG = ROOT / ".run/e2e/kubeconfig"
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
# Seconds that the tests of one mutant may take: they wait out what never comes.
PATIENCE = 600


def images() -> list[str]:
    """Both programs' images, as the chart names them."""
    chart = ROOT / "deploy/helm/bookmesh"
    version = yaml.safe_load((chart / "Chart.yaml").read_text())["appVersion"]
    values = yaml.safe_load((chart / "values.yaml").read_text())
    return [f"{values[program]['image']['repository']}:{version}" for program in ("server", "client")]


@contextmanager
def cluster() -> Iterator[None]:
    """A cluster with the images in it.

    Raises:
        CalledProcessError: it cannot be made.
    """
    make = ["make", "--no-print-directory", "-C", str(ROOT)]
    KUBECONFIG.parent.mkdir(parents=True, exist_ok=True)
    os.environ |= {"KUBECONFIG": str(KUBECONFIG), "BOOKMESH_E2E_KUBECONFIG": str(KUBECONFIG)}
    try:
        subprocess.run([*make, "kind-up", f"CLUSTER={CLUSTER}", "ZIPKIN_PORT=0"], check=True)
        yield
    finally:
        if not os.environ.get("KEEP"):
            subprocess.run([*make, "kind-down", f"CLUSTER={CLUSTER}"], check=False)
            KUBECONFIG.unlink(missing_ok=True)


def make_images(mutant: Mutant) -> list[str]:
    """Build a mutant's images and load them into the cluster; their names."""
    made = []
    for image in images():
        name = f"{image.rpartition(':')[0]}:{mutant.tag}"
        build = ["docker", "build", "--quiet", "--tag", name, "--file", str(HERE / "Dockerfile")]
        arguments = [f"--build-arg=IMAGE={image}", f"--build-arg=MUTANT={mutant.name}"]
        subprocess.run([*build, *arguments, str(mutant.file.parent)], check=True, stdout=subprocess.DEVNULL)
        made.append(name)
    kind = [str(ROOT / ".tools/bin/kind"), "load", "docker-image", "--name", CLUSTER]
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


def tried(mutant: Mutant) -> Catch | str:
    """Make a mutant and run its tests; what caught it, or why nothing did."""
    made: list[str] = []
    try:
        made = make_images(mutant)
        return run_tests(mutant) or f"survived: all its tests passed; see {REPORTS / mutant.name}.log"
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"not known: {error}"
    finally:
        if made:
            subprocess.run(["docker", "rmi", *made], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@click.command()
@click.argument("mutants", nargs=-1, type=click.Choice(list(BY_NAME)))
def main(mutants: tuple[str, ...]) -> None:
    """Run the e2e tests on MUTANTS (all by default)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    REPORTS.mkdir(parents=True, exist_ok=True)
    chosen = [BY_NAME[name] for name in mutants or BY_NAME]
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("switched off", "caught by", "its message"):
        table.add_column(column, overflow="fold")
    missed = 0
    try:
        with cluster():
            for mutant in chosen:
                click.echo(f"without {mutant.broken} …", err=True)
                result = tried(mutant)
                if isinstance(result, Catch):
                    table.add_row(mutant.broken, result.test, result.line)
                else:
                    missed += 1
                    table.add_row(mutant.broken, "nothing", result.replace(f"{ROOT}/", ""))
    except subprocess.CalledProcessError:
        sys.exit(1)  # it has said why
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    if missed:
        click.echo(f"{missed} of {len(chosen)} mutants were not caught", err=True)
        sys.exit(1)
    click.echo(f"{len(chosen)} mutants, all caught")


if __name__ == "__main__":
    main()
