import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from meshkit.tls import pem as pem_module
from meshkit.tls.certificate import certificates_in, validity
from meshkit.tls.pem import PemFiles, PemWatch

NOW = datetime.now(UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
USAGES = {
    "clients": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "servers": [ExtendedKeyUsageOID.SERVER_AUTH],
    "both": [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
    "e-mail": [ExtendedKeyUsageOID.EMAIL_PROTECTION],
    "nothing said": [],
}


def write_own(folder: Path, usages: list[x509.ObjectIdentifier], since: datetime, until: datetime) -> PemFiles:
    """A certificate of no authority's, for some usages."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "book")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), since, until)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=True)
    encoding = serialization.Encoding.PEM
    cert = builder.sign(key, hashes.SHA256()).public_bytes(encoding)
    plain, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "own.pem").write_bytes(cert)
    (folder / "own.key").write_bytes(key.private_bytes(encoding, plain, none))
    trustme.CA().cert_pem.write_to_path(folder / "ca.pem")
    return PemFiles(folder / "ca.pem", folder / "own.pem", folder / "own.key")


def write(folder: Path, *, until: datetime | None = None) -> PemFiles:
    authority = trustme.CA()
    since = datetime(2020, 1, 1, tzinfo=UTC) if until else None
    leaf = authority.issue_cert("127.0.0.1", not_before=since, not_after=until)
    files = PemFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    return files


def test_changed_files_are_read_again_once(tmp_path: Path) -> None:
    now = 0.0
    watch = PemWatch(write(tmp_path), clock=lambda: now)
    before = watch.pem
    write(tmp_path)
    assert not watch.changed(), "looked at within the second"
    now = 2.0
    assert watch.changed()
    assert watch.pem != before
    now = 4.0
    assert not watch.changed()


def test_new_files_that_are_of_no_use_are_not_used(tmp_path: Path) -> None:
    now = 0.0
    watch = PemWatch(write(tmp_path), clock=lambda: now)
    before = watch.pem
    write(tmp_path, until=datetime(2021, 1, 1, tzinfo=UTC))
    now = 2.0
    assert not watch.changed()
    assert watch.pem == before
    (tmp_path / "key.pem").unlink()
    now = 4.0
    assert not watch.changed()
    write(tmp_path)
    now = 6.0
    assert watch.changed()


@pytest.mark.parametrize("broken", ["ca.pem", "cert.pem", "key.pem"])
def test_a_file_that_is_no_pem_is_named(tmp_path: Path, broken: str) -> None:
    files = write(tmp_path)
    (tmp_path / broken).write_text("no PEM")
    with pytest.raises(ValueError, match=broken):
        files.read()


def test_a_key_never_shows(tmp_path: Path) -> None:
    pem = write(tmp_path).read()
    assert "PRIVATE" not in repr(pem)


@pytest.mark.parametrize("usages", USAGES.values(), ids=USAGES)
def test_dates_count_whatever_a_certificate_is_for(tmp_path: Path, usages: list[x509.ObjectIdentifier]) -> None:
    day = timedelta(days=1)
    assert write_own(tmp_path, usages, NOW - day, NOW + day).read().cert
    for since, until, why in ((LONG_AGO, NOW - day, "has expired"), (NOW + day, NOW + 2 * day, "not yet valid")):
        with pytest.raises(ValueError, match=rf"own\.pem: certificate .*{why}"):
            write_own(tmp_path, usages, since, until).read()


def test_a_renewed_certificate_that_has_expired_is_not_used_whatever_it_is_for(tmp_path: Path) -> None:
    day = timedelta(days=1)
    clients = USAGES["clients"]
    now = 0.0
    watch = PemWatch(write_own(tmp_path, clients, NOW - day, NOW + day), clock=lambda: now)
    before = watch.pem
    write_own(tmp_path, clients, LONG_AGO, NOW - day)
    now = 2.0
    assert not watch.changed()
    assert watch.pem == before


def test_authorities_that_have_all_expired_are_of_no_use(tmp_path: Path) -> None:
    old = write_own(tmp_path, [], LONG_AGO, NOW - timedelta(days=1))
    assert old.cert
    with pytest.raises(ValueError, match=r"own\.pem: all of its certificates have expired"):
        PemFiles(old.cert).read()
    both = tmp_path / "both.pem"
    both.write_bytes(old.cert.read_bytes() + old.ca.read_bytes())
    assert PemFiles(both).read()


def test_what_is_used_is_what_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path)
    check = pem_module._check_pair

    def renewed_meanwhile(cert: Path, key: Path) -> None:
        write(tmp_path)
        check(cert, key)

    monkeypatch.setattr(pem_module, "_check_pair", renewed_meanwhile)
    with pytest.raises(ValueError, match="changed while they were read"):
        files.read()


def test_comments_of_any_language_may_stand_among_authorities(tmp_path: Path) -> None:
    files = write(tmp_path)
    files.ca.write_bytes("# Größe, 认证\n".encode() + files.ca.read_bytes())
    assert files.read()


@pytest.mark.parametrize("year", [1950, 1999, 2000, 2049, 2050, 2999])
def test_validity_is_what_others_read_from_a_certificate(tmp_path: Path, year: int) -> None:
    until = datetime(year, 12, 31, 23, 59, 58, tzinfo=UTC)
    files = write_own(tmp_path, [], datetime(1950, 1, 1, tzinfo=UTC), until)
    assert files.cert
    (der,) = certificates_in(files.cert.read_bytes())
    assert der == ssl.PEM_cert_to_DER_cert(files.cert.read_text())
    assert validity(der) == (datetime(1950, 1, 1, tzinfo=UTC), until)


@pytest.mark.parametrize("cut", [0, 1, 2, 10, 100])
def test_half_a_certificate_has_no_validity(tmp_path: Path, cut: int) -> None:
    files = write(tmp_path)
    assert files.cert
    (der,) = certificates_in(files.cert.read_bytes())
    with pytest.raises(ValueError, match="expected a certificate"):
        validity(der[:cut])
