"""Free loopback ports for child processes."""

import atexit
import random
import socket
from pathlib import Path

LOWEST = 20000


def free_port() -> int:
    """A port that nothing listens on, and that was not given to this process before, nor to another that still runs.

    It lies below the range that the kernel takes from for outgoing connections, so that none of those
    takes the port of a child that is being restarted (on loopback a client can even connect to itself
    that way). A program that does not ask here can still take it first.

    Raises:
        OSError: No free port after 200 tries.
    """
    highest = max(_lowest_ephemeral() - 1, LOWEST + 2000)
    for _ in range(200):
        port = random.randint(LOWEST, highest)
        if is_free(port) and _claim(port):
            return port
    raise OSError(f"no free port between {LOWEST} and {highest} after 200 tries: close some programs")


def preferred_port(port: int) -> int:
    """`port` if it is free and not claimed, else another one."""
    return port if is_free(port) and _claim(port) else free_port()


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
            except OSError:
                if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
                    continue
                return False
    return True


def _claim(port: int) -> bool:
    """Claim it among all processes that ask here, until this one ends; False: another has it.

    By a socket on the same UDP port, which is not used otherwise: the system frees it even when the process is killed.
    """
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    atexit.register(claim.close)
    return True


def _lowest_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 49152  # IANA's, and what macOS uses
