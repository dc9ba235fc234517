"""Addresses: `host:port`, with IPv6 hosts in brackets."""

from __future__ import annotations

import re

__all__ = ["parse_address"]

# RFC 1123 host names, IPv4 literals, and bracketed IPv6 literals (RFC 3986 §3.2.2, without zone ids).
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})")


def parse_address(text: str) -> tuple[str, int]:
    """Split `host:port`; an IPv6 host comes back without its brackets.

    Raises:
        ValueError: not of that form, or the port is not in 0..65535.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(f"expected host:port, got {text[:80]!r}")
    port = int(match["port"])
    if port > 65535:
        raise ValueError(f"expected a port of at most 65535, got {text[:80]!r}")
    return match["host"].strip("[]"), port
