"""`python -m localmesh`: the demo and the soak run."""

import sys
from typing import Any

import click

from localmesh.demo import Options, run_demo, stays_by_default
from localmesh.soak import run_soak
from localmesh.story import LEAST_REPLICAS


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Run a whole mesh on this machine."""


@main.command()
@click.option("--replicas", type=click.IntRange(1, 50), default=3, help="Book servers.")
@click.option("--calls", type=click.IntRange(1), default=30, help="Calls that the client makes.")
@click.option("--rate", type=click.FloatRange(0), help="Calls a second that a replica takes; 0: any.  [default: 1]")
@click.option(
    "--stay/--no-stay", default=None, help="Stay up afterwards.  [default: in a terminal]", show_default=False
)
@click.option("--story", is_flag=True, help="Tell a story in five acts instead, and exit with its verdict.")
@click.option("--act-seconds", type=click.FloatRange(1, 3600), default=20.0, help="Of each act of the story.")
def demo(*, stay: bool | None, story: bool, **options: Any) -> None:
    """Start etcd, Zipkin, replicas and a client, and show the slowest call's trace."""
    stay = (stays_by_default() and not story) if stay is None else stay
    if story and options["replicas"] < LEAST_REPLICAS:
        raise click.BadParameter(f"a story needs at least {LEAST_REPLICAS}", param_hint="--replicas")
    sys.exit(run_demo(Options(stay=stay, story=story, **options)))


@main.command()
@click.option("--seed", type=int, help="Of the random faults.  [default: another one each time]", show_default=False)
@click.option("--minutes", type=click.FloatRange(0.1, 1440), default=10.0, help="How long.")
def soak(seed: int | None, minutes: float) -> None:
    """Call for minutes while replicas, etcd, Zipkin and the network fail at random, and account for every call."""
    sys.exit(run_soak(seed, minutes))


if __name__ == "__main__":
    main(prog_name="python -m localmesh")
