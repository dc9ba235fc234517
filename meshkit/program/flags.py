"""Types of command-line options that programs in the mesh share, for click: a bad value is one line of error.

Each has bounds: the program can work with every value that is accepted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import durationpy

from meshkit.address import parse_address

__all__ = [
    "ADDRESS",
    "ADDRESSES",
    "CERTIFICATE_NAMES",
    "DURATION",
    "HOST_NAME",
    "MESSAGE_BYTES",
    "NAME",
    "OTLP_URL",
    "PAGE_URL",
    "PEER_ADDRESS",
    "PEM_FILE",
    "PREFIX",
    "RATE",
    "ZIPKIN_URL",
    "Count",
    "FiniteRange",
    "NameList",
]

# No flag has a use for more characters; what is longer is not shown in full.
LONGEST = 2000
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DURATION = re.compile(r"-?(?:(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:ns|us|µs|μs|ms|s|m|h))+")
_SECRETS = re.compile(r"^(\w+://)?.*@|[?#].*", re.DOTALL)
# RFC 1123's host names with at least one letter, as addresses are no names; URIs by their start and characters.
DNS_NAME = re.compile(r"(?=[^a-z]*[a-z])[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9])?", re.IGNORECASE)
URI = re.compile(r"(urn:|[a-z][a-z0-9+.-]*://)[!-~]+", re.IGNORECASE)
LONGEST_DURATION = 365 * 24 * 3600.0


class Duration(click.ParamType[float]):
    """Go's notation (`200us`, `1.5s`, `1m30s`), up to a year; a bare `0` needs no unit. Converts to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the flag's text; fail with one line that says what was expected."""
        if isinstance(value, float):
            return value
        try:
            if value == "0":
                return 0.0
            if not _DURATION.fullmatch(value):
                raise ValueError(value)  # noqa: TRY301 - as durationpy does
            seconds = float(durationpy.from_str(value).total_seconds())
        except (durationpy.DurationError, OverflowError, ValueError):
            self.fail(f"expected a duration such as 200ms, 1.5s or 1m30s, got {_shown(value)}", param, ctx)
        if value.startswith("-"):
            self.fail(f"expected a duration of at least 0s, got {_shown(value)}", param, ctx)
        if seconds > LONGEST_DURATION:
            self.fail(f"expected a duration of at most 8760h, a year, got {_shown(value)}", param, ctx)
        return seconds


class Count(click.IntRange):
    """An IntRange with an upper bound, in ASCII digits: Python's own would take `1_000` and digits of any script.

    Args:
        least: smallest value.
        most: largest value. Default a billion.
    """

    def __init__(self, least: int, most: int = 1_000_000_000) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Convert the flag's text; fail with one line that says what was expected."""
        if isinstance(value, str) and not _WHOLE.fullmatch(value):
            self.fail(f"expected a whole number, got {_shown(value)}", param, ctx)
        number: int = super().convert(value, param, ctx)
        return number


class FiniteRange(click.FloatRange):
    """A FloatRange of numbers in ASCII digits, without `inf` and `nan`, which lies within any bounds.

    Args:
        positive_from: what is above 0 and below this is refused: its inverse may be infinite. Default 0.
    """

    def __init__(
        self,
        least: float | None = None,
        most: float | None = None,
        *,
        min_open: bool = False,
        positive_from: float = 0.0,
    ) -> None:
        super().__init__(least, most, min_open=min_open)
        self._positive_from = positive_from

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the flag's text; fail with one line that says what was expected."""
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            self.fail(f"expected a number, got {_shown(value)}", param, ctx)
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"expected a finite number, got {_shown(value)}", param, ctx)
        if 0 < number < self._positive_from:
            self.fail(f"expected 0 or at least {self._positive_from}, got {_shown(value)}", param, ctx)
        return number


class Address(click.ParamType[str]):
    """`host:port`.

    Args:
        least_port: 0 where a free one may be taken (to listen on), 1 where it is to be called. Default 0.
    """

    name = "host:port"

    def __init__(self, least_port: int = 0) -> None:
        self._least_port = least_port

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert the flag's text; fail with one line that says what was expected."""
        text = str(value).strip(" ")
        try:
            _, port = parse_address(text)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if port < self._least_port:
            self.fail(f"expected a port of at least {self._least_port}, got {_shown(text)}", param, ctx)
        return text


class Addresses(click.ParamType[tuple[str, ...]]):
    """`host:port[,host:port...]`. Converts to a tuple."""

    name = "host:port,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Convert the flag's text; fail with one line that says what was expected."""
        if isinstance(value, tuple):
            return value
        return tuple(PEER_ADDRESS.convert(part, param, ctx) for part in str(value).split(","))


class Text(click.ParamType[str]):
    """Printable text of 1 to 255 characters: the name of a user, say."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert the flag's text; fail with one line that says what was expected."""
        if not 1 <= len(value) <= 255 or not value.isprintable():
            self.fail(f"expected 1 to 255 printable characters, got {_shown(value)}", param, ctx)
        return str(value)


class HostName(click.ParamType[str]):
    """The name or IP address of a host, without a port."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert the flag's text; fail with one line that says what was expected."""
        try:
            parse_address(f"[{value}]:1" if ":" in value else f"{value}:1")
        except ValueError:
            self.fail(f"expected the name or the address of a host, got {_shown(value)}", param, ctx)
        return str(value)


class Prefix(click.ParamType[str]):
    """The prefix of a service's keys in etcd; has to end with a slash."""

    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Convert the flag's text; fail with one line that says what was expected."""
        if not value.endswith("/") or value == "/":
            self.fail(f'expected a prefix that ends with "/", such as /services/book/, got {_shown(value)}', param, ctx)
        if len(value) > LONGEST or not value.isprintable():
            self.fail(f"expected up to {LONGEST} printable characters, got {_shown(value)}", param, ctx)
        return str(value)


class CertificateNames(click.ParamType[tuple[str, ...]]):
    """`name[,name...]`: DNS names or URIs, as certificates have them. Converts to a tuple."""

    name = "name,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Convert the flag's text; fail with one line that says what was expected."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        for name in names:
            # Anything else is in no certificate, and would lock every client out.
            if not (DNS_NAME.fullmatch(name) or URI.fullmatch(name)):
                expected = "expected DNS names or URIs such as book-client,spiffe://mesh/book-client"
                self.fail(f"{expected}, got {_shown(name)}", param, ctx)
        return names


class CollectorUrl(click.ParamType[str | None]):
    """The URL of a collector of spans.

    Args:
        example: such a URL, for the error.
        off: whether `off` may be said, which converts to None.
    """

    name = "url"

    def __init__(self, example: str, *, off: bool) -> None:
        self._example = example
        self._off = off

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | None:
        """Convert the flag's text; fail with one line that says what was expected."""
        if value == "off" and self._off:
            return None
        try:
            parts = urlsplit(value)
            host = parts.hostname or ""
            valid = parts.scheme in {"http", "https"} and parts.port != 0 and bool(host)
            parse_address(f"[{host}]:1" if ":" in host else f"{host}:1")
        except ValueError:
            valid = False
        if not valid or not (value.isascii() and value.isprintable()) or " " in value or len(value) > LONGEST:
            # User, password and query may be secrets.
            shown = _SECRETS.sub(r"\1", value)
            expected = f"expected a URL such as {self._example}{', or off' if self._off else ''}"
            self.fail(f"{expected}, got {_shown(shown)}", param, ctx)
        return str(value)


class NameList(click.ParamType[tuple[str, ...]]):
    """`name[,name...]`, each one of some. Converts to a tuple.

    Args:
        names: those that there are.
        check: raises ValueError where they do not go together.
    """

    name = "name,..."

    def __init__(self, names: Sequence[str], check: Callable[[Sequence[str]], object]) -> None:
        self._names = names
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """See click.ParamType."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip(" ") for part in str(value).split(","))
        if not set(names) <= set(self._names):
            self.fail(f"expected names out of {', '.join(self._names)}; got {_shown(value)}", param, ctx)
        try:
            self._check(names)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return names


def _shown(value: Any) -> str:
    return repr(str(value)[:80])


DURATION = Duration()
ADDRESS = Address()
PEER_ADDRESS = Address(least_port=1)
ADDRESSES = Addresses()
NAME = Text()
HOST_NAME = HostName()
PREFIX = Prefix()
CERTIFICATE_NAMES = CertificateNames()
# Of one message.
MESSAGE_BYTES = Count(1024, 64 * 1024 * 1024)
# Calls a second.
RATE = FiniteRange(0, 1e6, positive_from=1e-6)
ZIPKIN_URL = CollectorUrl("http://127.0.0.1:9411/api/v2/spans", off=True)
OTLP_URL = CollectorUrl("http://127.0.0.1:4318/v1/traces", off=False)
PAGE_URL = CollectorUrl("http://127.0.0.1:9411/zipkin", off=False)
PEM_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
