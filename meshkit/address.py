"""Addresses: `host:port`, with IPv6 hosts in brackets."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

__all__ = ["grpc_target", "parse_address"]

# RFC 1123 host names, IPv4 literals, and bracketed IPv6 literals (RFC 3986 §3.2.2, without zone ids).
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[0-9]{1,5})")
# RFC 1035 §2.3.4; for names that break it Python's resolver raises UnicodeError, not OSError.
LONGEST_LABEL = 63


def parse_address(text: str) -> tuple[str, int]:
    """Split `host:port`; an IPv6 host comes back without its brackets.

    Raises:
        ValueError: not of that form, no host can have that name or address, or the port is not in 0..65535.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ValueError(f"expected host:port, got {text[:80]!r}")
    port = int(match["port"])
    if port > 65535:
        raise ValueError(f"expected a port of at most 65535, got {text[:80]!r}")
    try:
        _check_host(match["host"])
    except ValueError as error:
        raise ValueError(f"expected host:port, got {text[:80]!r}: {error}") from error
    return match["host"].strip("[]"), port


def grpc_target(address: str) -> str:
    """The target for gRPC that means this `host:port` and nothing else.

    gRPC reads targets as URIs (its doc/naming.md): `dns:2379` would be a host called 2379, `unix:50051` a socket.

    Raises:
        ValueError: it is no `host:port` (see `parse_address`).
    """
    host, _ = parse_address(address)
    if ":" in host:
        return f"ipv6:{address}"
    return f"ipv4:{address}" if host.replace(".", "").isdigit() else f"dns:///{address}"


def _check_host(host: str) -> None:
    """Raise a ValueError that says why this cannot be a host."""
    if host.startswith("["):
        IPv6Address(host.strip("[]"))
    elif host.replace(".", "").isdigit():
        IPv4Address(host)
    elif not all(1 <= len(label) <= LONGEST_LABEL for label in host.removesuffix(".").split(".")):
        raise ValueError(f"Expected 1 to {LONGEST_LABEL} characters in each part of the name")
