"""Types of command-line options that programs in the mesh share, for click: a bad value is one line of error."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import durationpy

from meshkit.address import parse_address

__all__ = ["ADDRESS", "ADDRESSES", "CERTIFICATE_NAMES", "DURATION", "PEM_FILE", "PREFIX", "ZIPKIN_URL", "FiniteRange"]


# RFC 1123's host names with at least one letter, as addresses are no names; URIs by their start and characters.
DNS_NAME = re.compile(r"(?=[^a-z]*[a-z])[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9])?", re.IGNORECASE)
URI = re.compile(r"(urn:|[a-z][a-z0-9+.-]*://)[!-~]+", re.IGNORECASE)


class Duration(click.ParamType[float]):
    """Go's notation (`200us`, `1.5s`, `1m30s`); a bare `0` needs no unit. Converts to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        if isinstance(value, float):
            return value
        try:
            seconds = 0.0 if value == "0" else float(durationpy.from_str(value).total_seconds())
        except (durationpy.DurationError, OverflowError, ValueError):
            self.fail(f"expected a duration such as 200ms, 1.5s or 1m30s, got {value!r}", param, ctx)
        if seconds < 0:
            self.fail(f"expected a duration of at least 0s, got {value!r}", param, ctx)
        return seconds


class FiniteRange(click.FloatRange):
    """A FloatRange without `inf`, and without `nan`, which lies within any bounds as it compares with nothing."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See click.ParamType."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {value!r}", param, ctx)
        return number


class Address(click.ParamType[str]):
    """`host:port`."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        text = str(value).strip()
        try:
            parse_address(text)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return text


class Addresses(click.ParamType[tuple[str, ...]]):
    """`host:port[,host:port...]`. Converts to a tuple."""

    name = "host:port,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        return tuple(ADDRESS.convert(part, param, ctx) for part in str(value).split(","))


class Prefix(click.ParamType[str]):
    """The prefix of a service's keys in etcd; has to end with a slash."""

    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See click.ParamType."""
        if not value.endswith("/") or value == "/":
            self.fail(f'expected a prefix that ends with "/", such as /services/book/, got {value!r}', param, ctx)
        return str(value)


class CertificateNames(click.ParamType[tuple[str, ...]]):
    """`name[,name...]`: DNS names or URIs, as certificates have them. Converts to a tuple."""

    name = "name,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        for name in names:
            # What is no such name is in no certificate, and would shut everybody out.
            if not (DNS_NAME.fullmatch(name) or URI.fullmatch(name)):
                expected = "expected DNS names or URIs such as book-client,spiffe://mesh/book-client"
                self.fail(f"{expected}, got {name!r}", param, ctx)
        return names


class ZipkinUrl(click.ParamType[str | None]):
    """The URL of Zipkin's collector, or `off`, which converts to None."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | None:
        """See click.ParamType."""
        if value == "off":
            return None
        try:
            parts = urlsplit(value)
            valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            expected = "expected a URL such as http://127.0.0.1:9411/api/v2/spans, or off"
            self.fail(f"{expected}, got {value!r}", param, ctx)
        return str(value)


DURATION = Duration()
ADDRESS = Address()
ADDRESSES = Addresses()
PREFIX = Prefix()
CERTIFICATE_NAMES = CertificateNames()
ZIPKIN_URL = ZipkinUrl()
PEM_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
