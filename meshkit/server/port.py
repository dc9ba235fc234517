"""A server's port: bound at one address, or at all that a host name stands for."""

from __future__ import annotations

import asyncio
import errno
import socket

import grpc

from meshkit.address import parse_address
from meshkit.tls.credentials import ServerTls

__all__ = ["bind", "listening_sockets"]

# Seconds for a host name's look-up.
LOOK_UP = 10.0
# What an address is refused for that this host does not have, such as ::1 where IPv6 is off. Others of the name may do.
NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


async def bind(server: grpc.aio.Server, listen: str, tls: ServerTls | None = None) -> int:
    """Give a server its port; fail with the reason, where gRPC would only say that it failed and log the rest.

    A host name is looked up in a thread, where gRPC would hold up the event loop. All of its addresses that this host
    has are bound, as gRPC does, at the same port.

    Args:
        server: not yet started.
        listen: `host:port`; port 0 takes a free one.
        tls: None: plaintext.

    Returns:
        The port.

    Raises:
        OSError: it cannot be bound; says which, and why.
    """
    host, port = parse_address(listen)
    refused: OSError | None = None
    bound = False
    try:
        for address in await _addresses(host):
            try:
                _try_to_listen(address, port)
            except OSError as error:
                if error.errno not in NOT_HERE:
                    raise
                refused = error
                continue
            target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            port = server.add_secure_port(target, tls.credentials()) if tls else server.add_insecure_port(target)
            bound = True
        if refused is not None and not bound:
            raise refused
    except OSError as error:
        raise OSError(f"cannot listen on {listen}: {error.strerror or error}") from error
    except RuntimeError as error:
        # gRPC's: another program took the port meanwhile, or gRPC cannot use it although the system can.
        raise OSError(f"cannot listen on {listen}: {error}") from error
    return port


async def listening_sockets(listen: str) -> list[socket.socket]:
    """Sockets that listen at one address, or at all that a host name stands for and this host has, at the same port.

    Args:
        listen: `host:port`; port 0 takes a free one.

    Raises:
        OSError: it cannot be bound; says which, and why.
    """
    host, port = parse_address(listen)
    opened: list[socket.socket] = []
    refused: OSError | None = None
    try:
        addresses = await _addresses(host)
        for address in addresses:
            listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            opened.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if ":" in address and len(addresses) > 1:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind((address, port))
            except OSError as error:
                if error.errno not in NOT_HERE:
                    raise
                refused = error
                opened.remove(listener)
                listener.close()
                continue
            listener.listen()
            listener.setblocking(False)
            port = listener.getsockname()[1]
        if not opened and refused is not None:
            raise refused
    except OSError as error:
        for listener in opened:
            listener.close()
        raise OSError(f"cannot listen on {listen}: {error.strerror or error}") from error
    return opened


async def _addresses(host: str) -> list[str]:
    """The IP addresses that a host name stands for, each once, in the order of the look-up."""
    try:
        async with asyncio.timeout(LOOK_UP):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
    except TimeoutError:
        raise OSError(f"the name was not resolved within {LOOK_UP:g} s") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _try_to_listen(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        # As gRPC does: connections of an earlier server that linger in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))
        probe.listen()
