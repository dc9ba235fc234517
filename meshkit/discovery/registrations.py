"""What a registration looks like in etcd: the key `<prefix><host:port>`, with `<host:port>` as its value."""

from __future__ import annotations

from meshkit.address import parse_address
from meshkit.etcd.api import KeyValue

__all__ = ["address_of", "checked_prefix", "key_of"]


def checked_prefix(prefix: str) -> str:
    """The prefix of a service's registrations, e.g. `/services/book/`.

    Raises:
        ValueError: it does not end with "/".
    """
    if not prefix.endswith("/"):
        raise ValueError(f'expected a prefix that ends with "/", got {prefix!r}: it would match its neighbours')
    return prefix


def key_of(prefix: str, address: str) -> str:
    """The key that an instance registers under.

    Args:
        prefix: e.g. `/services/book/`.
        address: `host:port` that clients reach the instance at.

    Raises:
        ValueError: the prefix does not end with "/", or the address is none that can be called.
    """
    _, port = parse_address(address)
    if not port:
        raise ValueError(f"expected a port from 1 to 65535, got {address!r}")
    return checked_prefix(prefix) + address


def address_of(prefix: str, item: KeyValue) -> str:
    """The `host:port` of a registration.

    Raises:
        ValueError: its value is no address that can be called, or its key is not the prefix followed by that address:
            it is not a registration of this service.
    """
    _, port = parse_address(item.value)
    if not port:
        raise ValueError(f"expected a port from 1 to 65535, got {item.value!r}")
    if item.key != prefix + item.value:
        raise ValueError(f"expected the key {prefix + item.value!r} for this address")
    return item.value
