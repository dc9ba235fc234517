from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from meshkit.tls.pem import PemFiles, PemWatch


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
