"""The command `python -m toolchain [TOOL]...`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from toolchain.cache import Cache, default_root
from toolchain.errors import ToolchainError
from toolchain.install import install
from toolchain.interruption import Interrupted, Interruptions
from toolchain.progress import showing
from toolchain.tools import FOR_LOCAL_MESH, TOOLS


@click.command()
@click.argument("tools", nargs=-1, type=click.Choice(list(TOOLS)))
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(__file__).parents[1] / ".tools",
    help="The folder to leave them in; .tools of the checkout by default.",
)
def main(tools: tuple[str, ...], into: Path) -> None:
    """Fetch TOOLS (etcd, zipkin and java by default), pinned and checksummed."""
    cache = Cache(default_root())
    try:
        with Interruptions() as interruptions, interruptions.armed():
            for name in tools or FOR_LOCAL_MESH:
                with showing() as progress:
                    found = install(TOOLS[name], into, cache, progress)
                click.echo(f"  {found}", err=True)
    except (ToolchainError, OSError) as error:
        click.echo(f"toolchain: {error}", err=True)
        sys.exit(1)
    except Interrupted as interrupted:
        click.echo(f"toolchain: {interrupted}", err=True)
        sys.exit(interrupted.status)


if __name__ == "__main__":
    main()
