"""Certificates and keys in PEM files: read, checked before they are used, and read again when they change."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from meshkit.files import read_small
from meshkit.tls.certificate import certificates_in, validity

__all__ = ["Pem", "PemFiles", "PemWatch"]

log = structlog.stdlib.get_logger(__name__)


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
        """Read all of them and check that they can be used now.

        Raises:
            ValueError: one line that names the file and what is wrong with it: missing, unreadable, no PEM, a key
                that is another certificate's, expired, not yet valid.
        """
        ca = read_small(self.ca)
        _check_authorities(self.ca, ca)
        if self.cert is None or self.key is None:
            return Pem(ca, None, None)
        cert, key = read_small(self.cert), read_small(self.key)
        _check_pair(self.cert, self.key)
        # The ssl module reads the files itself: it has checked what was read here if they still hold the same.
        if (read_small(self.cert), read_small(self.key)) != (cert, key):
            raise ValueError(f"{self.cert}, {self.key}: they changed while they were read")
        _check_dates(self.cert, cert)
        return Pem(ca, cert, key)

    def signature(self) -> tuple[object, ...]:
        """Changes whenever a file does; costs a stat a file."""
        return tuple(_identity(path) for path in (self.ca, self.cert, self.key) if path is not None)


class PemWatch:
    """The files' content, kept up to date: the files are checked at most once in `every` seconds.

    New content that cannot be used (half written, expired) is logged once, and the last good one stays in use.

    Args:
        files: read at once.
        every: seconds between two looks. Default 1.
        clock: seconds, monotonic.

    Raises:
        ValueError: the files cannot be used (`PemFiles.read`).
    """

    def __init__(self, files: PemFiles, *, every: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._files = files
        self._every = every
        self._clock = clock
        # Before the content: a change in between is then noticed the next time.
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


def _identity(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_size, status.st_ino


def _check_authorities(path: Path, pem: bytes) -> None:
    try:
        # The ssl module takes ASCII only; what else there is stands in comments.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii", errors="ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"{path}: expected certificates in PEM form") from error
    now = datetime.now(UTC)
    if all(validity(certificate)[1] < now for certificate in certificates_in(pem)):
        raise ValueError(f"{path}: all of its certificates have expired")


def _check_pair(cert_file: Path, key_file: Path) -> None:
    try:
        # A passphrase would be asked for in the terminal: give a wrong one instead.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{key_file}: the key is not that of the certificate in {cert_file}") from error
        raise ValueError(
            f"expected a certificate in {cert_file} and its key without a passphrase in {key_file}, both in PEM form"
        ) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{cert_file}, {key_file}: {error}") from error


def _check_dates(path: Path, pem: bytes) -> None:
    """Check the own certificate, which comes first: peers may not need those after it."""
    own, *_ = certificates_in(pem) or [b""]
    try:
        since, until = validity(own)
    except ValueError as error:
        raise ValueError(f"{path}: {error}, got something else") from error
    now = datetime.now(UTC)
    if until < now:
        raise ValueError(f"{path}: certificate has expired, on {until:%Y-%m-%d at %H:%M:%S} UTC")
    if since > now:
        raise ValueError(f"{path}: certificate is not yet valid, but from {since:%Y-%m-%d at %H:%M:%S} UTC on")
