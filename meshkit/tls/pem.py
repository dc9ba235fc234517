"""Certificates and keys in PEM files: read, checked before they are used, and read again when they change."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

__all__ = ["Pem", "PemFiles", "PemWatch"]

log = structlog.stdlib.get_logger(__name__)

# OpenSSL's verification codes (x509_vfy.h).
NOT_YET_VALID, EXPIRED = 9, 10


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files hold. `key` never shows up in a log line or an error."""

    ca: bytes
    cert: bytes | None
    key: bytes | None

    def __repr__(self) -> str:
        return f"Pem(ca={len(self.ca)} bytes, cert={len(self.cert or b'')} bytes)"


@dataclass(frozen=True, slots=True)
class PemFiles:
    """Where the certificates are.

    Args:
        ca: certificates of the authorities that the peer's certificate may come from.
        cert: this program's own certificate, intermediate ones after it; None: it shows none.
        key: the private key of `cert`, without a passphrase.
    """

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("expected both a certificate and its key, got only one of them")

    def read(self) -> Pem:
        """Read all of them and check that they are of use now.

        Raises:
            ValueError: one line that names the file and what is wrong with it: missing, unreadable, no PEM, a key
                that is another certificate's, expired, not yet valid.
        """
        ca = _read(self.ca)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ca.decode("ascii", errors="replace"))
        except (ssl.SSLError, ValueError) as error:
            raise ValueError(f"{self.ca}: expected certificates in PEM form") from error
        if self.cert is None or self.key is None:
            return Pem(ca, None, None)
        cert, key = _read(self.cert), _read(self.key)
        _check_pair(self.cert, self.key, cert)
        return Pem(ca, cert, key)

    def signature(self) -> tuple[object, ...]:
        """Changes whenever a file does; costs a stat a file."""
        return tuple(_identity(path) for path in (self.ca, self.cert, self.key) if path is not None)


class PemWatch:
    """The files' content, kept up to date: asking costs nothing, but a look at the files once in `every` seconds.

    New content that is of no use (half written, expired) is logged once, and the last good one stays.

    Args:
        files: read at once.
        every: seconds between two looks. Default 1.
        clock: seconds, monotonic.

    Raises:
        ValueError: see `PemFiles.read`.
    """

    def __init__(self, files: PemFiles, *, every: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._every = every
        self._clock = clock
        # Before the content: a change in between is then seen as one.
        self._signature = files.signature()
        self._looked = clock()
        self.pem = files.read()

    def changed(self) -> bool:
        """Whether `pem` is new since the last time that this was asked."""
        now = self._clock()
        if now - self._looked < self._every:
            return False
        self._looked = now
        signature = self._files.signature()
        if signature == self._signature:
            return False
        self._signature = signature
        try:
            pem = self._files.read()
        except ValueError as error:
            log.warning("new certificates not used", reason=str(error))
            return False
        if pem == self.pem:
            return False
        self.pem = pem
        log.info("certificates read again", ca=str(self._files.ca), cert=str(self._files.cert or ""))
        return True


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_size, status.st_ino


def _check_pair(cert_file: Path, key_file: Path, cert: bytes) -> None:
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A passphrase would be asked for in the terminal: give a wrong one instead.
        own.load_cert_chain(cert_file, key_file, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{key_file}: the key is not that of the certificate in {cert_file}") from error
        raise ValueError(
            f"expected a certificate in {cert_file} and its key without a passphrase in {key_file}, both in PEM form"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{cert_file}, {key_file}: {error}") from error
    _check_dates(own, cert_file, cert)


def _check_dates(own: ssl.SSLContext, cert_file: Path, cert: bytes) -> None:
    """Let a peer of our own look at the certificate: the ssl module reads dates in a handshake only."""
    peer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    peer.check_hostname = False
    peer.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    peer.load_verify_locations(cadata=cert.decode("ascii", errors="replace"))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = peer.wrap_bio(back, there), own.wrap_bio(there, back, server_side=True)
    try:
        for side in (client, server, client):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in {NOT_YET_VALID, EXPIRED}:
            raise ValueError(f"{cert_file}: {error.verify_message}") from error
