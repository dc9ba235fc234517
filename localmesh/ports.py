"""Free loopback ports for child processes."""

import random
import socket
from pathlib import Path

LOWEST = 20000
_given: set[int] = set()


def free_port() -> int:
    """A port that nothing listens on, and that this process was not given before.

    It lies below the range that the kernel takes from for outgoing connections, so that none of those
    takes the port of a child that is being restarted (on loopback a client can even connect to itself
    that way). Another process can still take it first: a child that says so is to be given another one.

    Raises:
        OSError: No free port after 200 tries.
    """
    highest = max(_lowest_ephemeral() - 1, LOWEST + 2000)
    for _ in range(200):
        port = random.randint(LOWEST, highest)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise OSError(f"no free port between {LOWEST} and {highest} after 200 tries: close some programs")


def preferred_port(port: int) -> int:
    """`port` if nothing listens on it, else another free one."""
    if port not in _given and is_free(port):
        _given.add(port)
        return port
    return free_port()


def is_free(port: int) -> bool:
    """Whether a program could listen on `port` now, on loopback as well as on every address."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::")):
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # no IPv6 here
            continue
        with probe:
            # As servers do: connections of an earlier one that linger in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
                    continue
                del error
                return False
    return True


def _lowest_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 49152  # IANA's, and what macOS uses
