"""TLS: certificates in PEM files that may change at any time, and the credentials that are made of them."""

from __future__ import annotations

from meshkit.tls.credentials import ClientTls, ServerTls
from meshkit.tls.pem import Pem, PemFiles, PemWatch

__all__ = ["ClientTls", "Pem", "PemFiles", "PemWatch", "ServerTls"]
