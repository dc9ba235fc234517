"""Which address of this host the spans tell of."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import ip_address

from meshkit.address import parse_address

__all__ = ["own_ip"]

# Addresses of documentation (RFC 5737, RFC 3849): what leads to them leads to anywhere.
ANYWHERE = ("192.0.2.1", "2001:db8::1")


def own_ip(peer: str) -> str | None:
    """The address that this host uses towards a peer; towards any other host if the peer is a name.

    No packet is sent and no name is looked up: the event loop would wait for the answer.
    """
    for target in (parse_address(peer)[0], *ANYWHERE):
        with contextlib.suppress(ValueError, OSError):
            family = socket.AF_INET if ip_address(target).version == 4 else socket.AF_INET6
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((target, 1))
                return str(probe.getsockname()[0])
    return None
