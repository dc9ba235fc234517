"""When certificates are valid, for whichever purpose they were made.

The ssl module checks the dates during a handshake, after the purpose, and so never for a certificate that is not meant
for its side of the handshake. What is read here is RFC 5280 §4.1, in DER (ITU-T X.690).
"""

from __future__ import annotations

import re
from base64 import b64decode
from datetime import UTC, datetime

__all__ = ["certificates_in", "validity"]

_PEM = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----(.*?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17


def certificates_in(pem: bytes) -> list[bytes]:
    """The certificates of a PEM file as DER, in their order."""
    return [b64decode(body) for body in _PEM.findall(pem)]


def validity(certificate: bytes) -> tuple[datetime, datetime]:
    """Between which times a certificate (DER) is valid.

    Raises:
        ValueError: it is no certificate.
    """
    try:
        ((_, parts),) = _elements(certificate)
        fields = _elements(_elements(parts)[0][1])
        # The version may be missing; then: serial number, algorithm, issuer, validity.
        validity_at = 4 if fields[0][0] == _VERSION else 3
        since, until = _elements(fields[validity_at][1])
        return _time(*since), _time(*until)
    except (IndexError, ValueError) as error:
        raise ValueError("expected a certificate") from error


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each element in a row of them."""
    found, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size], "big"), at + size
        found.append((tag, der[at : at + length]))
        at += length
    return found


def _time(tag: int, content: bytes) -> datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        # Two digits of the year: from 1950 to 2049.
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
