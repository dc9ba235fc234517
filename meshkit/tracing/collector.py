"""A collector of spans, by HTTP: of its answer the head is read, and a body only if it is short.

Why not requests: its time limits hold for each read and not for the whole, it reads all that an answer brings, and it
takes proxies and passwords (`.netrc`) from an environment that is meant for the web, not for the mesh.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from meshkit.errors import CollectorUnavailableError
from meshkit.files import read_small

__all__ = ["Answer", "Collector", "TlsFiles", "checked_headers", "checked_url", "shown_url"]

MAX_HEAD_BYTES = 16 * 1024
# What is longer is not read, and its connection closed.
MAX_BODY_BYTES = 16 * 1024
MAX_REASON = 100
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
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


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, if they can be sent.

    Raises:
        ValueError: one that cannot; its value, which may be a secret, is not in the text.
    """
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not (value.isascii() and value.isprintable()):
            raise ValueError(f"expected headers of printable ASCII characters, got another as {name[:40]!r}")
    return dict(headers)


class Answer(NamedTuple):
    """What a collector says; its body is empty where it was not read."""

    status: int
    reason: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Files of TLS (PEM).

    Args:
        ca: authorities that sign the collector's certificate. Default: the system's.
        cert: a certificate of one's own, for a collector that asks for one.
        key: its private key.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """What a connection is encrypted by.

        Raises:
            OSError: a file is missing or cannot be used; names it.
        """
        named = [path for path in (self.ca, self.cert, self.key) if path is not None]
        try:
            for path in named:
                # The functions of ssl would wait for the writer of a FIFO.
                read_small(path)
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ValueError) as error:
            files = ", ".join(map(str, named))
            raise OSError(f"expected certificates of a collector in {files}: {error}") from error
        return context


class Collector:
    """One connection to a collector, kept from one post to the next where it can be.

    Args:
        url: of scheme `http` or `https`. User and password in it are sent as basic authentication. A server of `https`
            needs a certificate of the system's authorities, or of those that SSL_CERT_FILE or SSL_CERT_DIR name.
        content_type: of what is posted.
        timeout: seconds that a post may take in all, without the look-up of the name. Default 8: a TLS handshake over a
            slow line takes some.
        headers: sent with each post, after its own. Default: none.
        tls: files for `https`; see `TlsFiles`.

    Raises:
        ValueError: no such URL, or a header that cannot be sent.
        OSError: the files of TLS cannot be used.
    """

    def __init__(
        self,
        url: str,
        content_type: str,
        *,
        timeout: float = 8.0,
        headers: Mapping[str, str] | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        parts = urlsplit(checked_url(url))
        self.shown = shown_url(url)
        self._host = parts.hostname
        self._tls = (tls or TlsFiles()).context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._head = _request_head(parts, content_type, headers or {})
        self._timeout = timeout
        self._kept: socket.socket | None = None

    def post(self, body: bytes) -> Answer:
        """Post once.

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

    def _exchange(self, connection: socket.socket, body: bytes, left: Callable[[], float]) -> Answer:
        try:
            rest = memoryview(self._head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            while rest:
                connection.settimeout(left())
                rest = rest[connection.send(rest) :]
            head, beyond = _read_head(connection, left)
            length = _length(head)
            said = b"" if length is None else _read_body(connection, beyond, length, left)
        except BaseException:
            connection.close()
            raise
        if length is not None and b"connection: close" not in head.lower() and len(beyond) <= length:
            self._kept = connection
        else:
            connection.close()
        found = _STATUS.fullmatch(head.partition(b"\r\n")[0].decode("latin-1"))
        if found is None:
            self.close()
            raise OSError("the answer is not HTTP")
        return Answer(int(found[1]), (found[2] or "")[:MAX_REASON], said)


def _request_head(url: SplitResult, content_type: str, headers: Mapping[str, str]) -> bytes:
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
    lines += [f"{name}: {value}" for name, value in checked_headers(headers).items()]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _length(head: bytes) -> int | None:
    """Of a body that is short, and said to be."""
    found = _CONTENT_LENGTH.search(head + b"\r\n")
    if found is None or b"\r\ntransfer-encoding:" in head.lower() or int(found[1]) > MAX_BODY_BYTES:
        return None
    return int(found[1])


def _read_body(connection: socket.socket, beyond: bytes, length: int, left: Callable[[], float]) -> bytes:
    read = beyond
    while len(read) < length:
        connection.settimeout(left())
        more = connection.recv(4096)
        if not more:
            raise OSError("the connection was closed within an answer")
        read += more
    return read[:length]


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
