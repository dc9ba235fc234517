"""A collector of spans, by HTTP: only the head of its answer is read.

Why not requests: its time limits hold for each read and not for the whole, it reads all that an answer brings, and it
takes proxies and passwords (`.netrc`) from an environment that is meant for the web, not for the mesh.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from meshkit.errors import CollectorUnavailableError

__all__ = ["Collector", "checked_url", "shown_url"]

MAX_HEAD_BYTES = 16 * 1024
MAX_REASON = 100
_STATUS = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: (.*))?")


def shown_url(url: str) -> str:
    """The parts of a URL that may be logged: scheme, host, port and path; user, password and query may be secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def checked_url(url: str) -> str:
    """The URL, if a collector can be posted to at it.

    Raises:
        ValueError: no URL of http or https; its text holds no secret of the URL.
    """
    parts = urlsplit(url)
    port = parts.port  # Raises by itself where it is no number.
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError(f"expected a URL of http or https, got {shown_url(url)!r}")
    if not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError(f"expected a URL of printable ASCII characters, got {shown_url(url)!r}")
    return url


class Collector:
    """One connection to a collector, kept from one post to the next where it can be.

    Args:
        url: of scheme `http` or `https`. User and password in it are sent as basic authentication. A server of `https`
            needs a certificate of the system's authorities, or of those that SSL_CERT_FILE or SSL_CERT_DIR name.
        content_type: of what is posted.
        timeout: seconds that a post may take in all, without the look-up of the name. Default 8: a TLS handshake over a
            slow line takes some.

    Raises:
        ValueError: no such URL.
    """

    def __init__(self, url: str, content_type: str, *, timeout: float = 8.0) -> None:
        parts = urlsplit(checked_url(url))
        self.shown = shown_url(url)
        self._host = parts.hostname
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._head = _request_head(parts, content_type)
        self._timeout = timeout
        self._kept: socket.socket | None = None

    def post(self, body: bytes) -> tuple[int, str]:
        """Post once; the status and its reason.

        Raises:
            CollectorUnavailableError: it cannot be reached, takes too long, or answers something that is not HTTP.
        """
        end = time.monotonic() + self._timeout

        def left() -> float:
            if (seconds := end - time.monotonic()) <= 0:
                raise TimeoutError(f"no answer within {self._timeout:g} s")
            return seconds

        kept, self._kept = self._kept, None
        if kept is not None:
            # It may have been closed since. A collector keeps spans that are posted twice only once: they have ids.
            with suppress(OSError):
                return self._exchange(kept, body, left)
        try:
            return self._exchange(self._connect(left), body, left)
        except OSError as error:
            raise CollectorUnavailableError(f"{self.shown}: {error}") from error

    def close(self) -> None:
        """Close the connection, if one is kept."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _connect(self, left: Callable[[], float]) -> socket.socket:
        addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, address) in enumerate(addresses):
            connection = socket.socket(family, kind, protocol)
            try:
                # A silent address leaves time for the others.
                connection.settimeout(left() / (len(addresses) - number))
                connection.connect(address)
                if self._tls is not None:
                    connection.settimeout(left())
                    connection = self._tls.wrap_socket(connection, server_hostname=self._host)
            except OSError:
                connection.close()
                if number == len(addresses) - 1:
                    raise
            else:
                return connection
        raise OSError(f"no address of {self._host} is known")

    def _exchange(self, connection: socket.socket, body: bytes, left: Callable[[], float]) -> tuple[int, str]:
        try:
            rest = memoryview(self._head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            while rest:
                connection.settimeout(left())
                rest = rest[connection.send(rest) :]
            head, beyond = _read_head(connection, left)
        except BaseException:
            connection.close()
            raise
        if (
            b"content-length: 0\r\n" in head.lower() + b"\r\n"
            and b"connection: close" not in head.lower()
            and not beyond
        ):
            self._kept = connection
        else:
            connection.close()
        found = _STATUS.fullmatch(head.partition(b"\r\n")[0].decode("latin-1"))
        if found is None:
            self.close()
            raise OSError("the answer is not HTTP")
        return int(found[1]), (found[2] or "")[:MAX_REASON]


def _request_head(url: SplitResult, content_type: str) -> bytes:
    """All of it but the length, which is the body's."""
    target = urlunsplit(("", "", url.path or "/", url.query, ""))
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {url.netloc.rpartition('@')[2]}",
        "User-Agent: meshkit",
        f"Content-Type: {content_type}",
    ]
    if url.username is not None:
        user = f"{unquote(url.username)}:{unquote(url.password or '')}"
        lines.append(f"Authorization: Basic {b64encode(user.encode()).decode()}")
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _read_head(connection: socket.socket, left: Callable[[], float]) -> tuple[bytes, bytes]:
    """Status line and headers, without the empty line after them; and what came with them."""
    read = b""
    while True:
        head, end, beyond = read.partition(b"\r\n\r\n")
        if end and not head.startswith(b"HTTP/1.1 1"):
            return head, beyond
        if end:
            # A 100 Continue and the like: the answer is still to come.
            read = beyond
            continue
        if len(read) > MAX_HEAD_BYTES:
            raise OSError("the answer has too many headers, or is not HTTP")
        connection.settimeout(left())
        more = connection.recv(4096)
        if not more:
            raise OSError("the connection was closed before an answer came")
        read += more
