"""Options about a program's admin port."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from meshkit.program.flags import ADDRESS, PAGE_URL

__all__ = ["AdminFlags", "admin_of", "admin_options"]


@dataclass(frozen=True, slots=True)
class AdminFlags:
    """What the flags say of the admin port.

    Args:
        listen: `host:port`; None: no such port.
        zipkin: where people open Zipkin; None: at the collector.
    """

    listen: str | None = None
    zipkin: str | None = None


def admin_options() -> tuple[Callable[[Any], Any], ...]:
    """--admin and --admin-zipkin."""
    return (
        click.option(
            "--admin",
            type=ADDRESS,
            help="Port for metrics, health and the live page, by HTTP without a password; none: no such port.",
        ),
        click.option(
            "--admin-zipkin",
            type=PAGE_URL,
            help="Where the page's links open Zipkin, e.g. http://127.0.0.1:9411/zipkin; default: at --zipkin.",
        ),
    )


def admin_of(flags: dict[str, Any]) -> AdminFlags:
    """Take out of the flags those about the admin port."""
    return AdminFlags(flags.pop("admin"), flags.pop("admin_zipkin"))
