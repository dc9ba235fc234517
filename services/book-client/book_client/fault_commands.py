"""`book-client faults`: has instances fail, hang or exit on demand, from the command line."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import click
from faults_pb2 import Fault

from book_client.faults import STATUSES, Ask, FaultError, asked, clearing, described, exiting, setting, showing
from meshkit import ClientTls, run_async
from meshkit.discovery.registrations import address_of
from meshkit.program.cli import EtcdAccess
from meshkit.program.flags import DURATION, PEER_ADDRESS, Count, FiniteRange

__all__ = ["Reach", "faults"]


@dataclass(frozen=True, slots=True)
class Reach:
    """How instances are found and reached, as book-client's own flags say."""

    etcd: EtcdAccess
    prefix: str
    tls: ClientTls | None


@click.group()
def faults() -> None:
    """Have instances of book-server --faults fail on demand.

    Flags for etcd and TLS are those of book-client, and stand before this: `book-client --etcd host:2379 faults show`.
    """


INSTANCES = click.option(
    "--instance",
    "instances",
    multiple=True,
    type=PEER_ADDRESS,
    help="Which one; may be repeated. Default: all in etcd.",
)


@faults.command("set")
@INSTANCES
@click.option(
    "--percent", type=FiniteRange(0, 100, min_open=True), default=100.0, show_default=True, help="Of calls hit."
)
@click.option("--status", type=click.Choice(list(STATUSES)), metavar="STATUS", help="Answer with UNAVAILABLE, say.")
@click.option("--delay", type=DURATION, default="0s", help="Be late by this; alone, or before one of the others.")
@click.option("--hang", is_flag=True, help="Do not answer.")
@click.option("--garbage", is_flag=True, help="Answer what cannot be decoded.")
@click.pass_obj
def set_(
    reach: Reach,
    *,
    instances: tuple[str, ...],
    percent: float,
    status: str | None,
    delay: float,
    hang: bool,
    garbage: bool,
) -> int:
    """Set the fault of instances; it replaces an earlier one."""
    if (status is not None) + hang + garbage > 1 or not (status or hang or garbage or delay):
        raise click.UsageError("expected one of --status, --hang and --garbage, or --delay, which may go with them")
    code = STATUSES[status] if status else 0
    fault = Fault(percent=percent, status=code, delay_seconds=delay, hang=hang, garbage=garbage)
    return _ask_all(reach, instances, setting(fault))


@faults.command()
@INSTANCES
@click.pass_obj
def clear(reach: Reach, *, instances: tuple[str, ...]) -> int:
    """End the fault of instances."""
    return _ask_all(reach, instances, clearing())


@faults.command()
@INSTANCES
@click.pass_obj
def show(reach: Reach, *, instances: tuple[str, ...]) -> int:
    """Show the fault of instances."""
    return _ask_all(reach, instances, showing())


@faults.command("exit")
@INSTANCES
@click.option("--code", type=Count(0, 255), default=1, show_default=True, help="Exit code.")
@click.pass_obj
def exit_(reach: Reach, *, instances: tuple[str, ...], code: int) -> int:
    """End instances at once, as a crash would."""
    return _ask_all(reach, instances, exiting(code))


def _ask_all(reach: Reach, instances: tuple[str, ...], ask: Ask) -> int:
    return run_async(_answers(reach, instances, ask))


async def _answers(reach: Reach, instances: tuple[str, ...], ask: Ask) -> int:
    """Ask all at once, and print a line each; 0 only if each did it."""
    there = sorted(set(instances)) or await _registered(reach)
    if not there:
        click.echo(f"no instance is registered under {reach.prefix}", err=True)
    answers = await asyncio.gather(*(asked(instance, ask, tls=reach.tls) for instance in there), return_exceptions=True)
    failed = not there
    for instance, answer in zip(there, answers, strict=True):
        if isinstance(answer, FaultError):
            click.echo(str(answer), err=True)
            failed = True
        elif isinstance(answer, BaseException):
            raise answer
        else:
            click.echo(f"{instance}: {_said(answer)}")
    return 1 if failed else 0


async def _registered(reach: Reach) -> list[str]:
    async with reach.etcd.client() as etcd:
        listing = await etcd.list(reach.prefix)
    found = []
    for item in listing.items:
        try:
            found.append(address_of(reach.prefix, item))
        except ValueError:
            continue  # No registration: the client ignores it, too.
    return sorted(found)


def _said(answer: Any) -> str:
    return described(answer) if isinstance(answer, Fault) else "ends"
