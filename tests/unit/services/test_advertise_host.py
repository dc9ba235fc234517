"""--advertise-host: the address under which a replica registers, from a host alone."""

from typing import Any

import book_server.__main__ as book_server
import pytest
from click.testing import CliRunner, Result


@pytest.fixture
def advertised(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the program would register under, instead of serving."""
    seen: list[str] = []
    monkeypatch.setattr(book_server, "serve_books", lambda settings, *_: seen.append(settings.advertise))
    monkeypatch.setattr(book_server, "run_async", lambda nothing: None)
    monkeypatch.setattr(book_server, "configure_logging", lambda *_: None)
    return seen


def invoke(*flags: str, **environment: Any) -> Result:
    return CliRunner().invoke(book_server.command, flags, auto_envvar_prefix="BOOK_SERVER", env=environment)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("10.0.0.5", "10.0.0.5:50051"),
        ("fd00::5", "[fd00::5]:50051"),
        ("::ffff:10.0.0.5", "[::ffff:10.0.0.5]:50051"),
        ("book-server-0.books.svc", "book-server-0.books.svc:50051"),
    ],
)
def test_a_host_gets_brackets_where_it_needs_them_and_the_port_of_listen(
    advertised: list[str], host: str, address: str
) -> None:
    assert invoke(BOOK_SERVER_ADVERTISE_HOST=host).exit_code == 0
    assert invoke("--advertise-host", host, "--listen", "[::]:1234").exit_code == 0
    assert advertised == [address, address.replace(":50051", ":1234")]


def test_a_whole_address_wins(advertised: list[str]) -> None:
    assert invoke(BOOK_SERVER_ADVERTISE_HOST="10.0.0.5", BOOK_SERVER_ADVERTISE="books:1").exit_code == 0
    assert invoke("--advertise-host=10.0.0.5", "--advertise=127.0.0.1:50051").exit_code == 0
    assert advertised == ["books:1", "127.0.0.1:50051"]


def test_without_any_it_is_advertises_default(advertised: list[str]) -> None:
    assert invoke().exit_code == 0
    assert advertised == ["127.0.0.1:50051"]


@pytest.mark.parametrize("host", ["", "fd00::5:50051:1:2:3:4:5:6", "[fd00::5]", "books:1", "a b", "300.1.1.1"])
def test_what_is_no_host_is_refused_by_name(advertised: list[str], host: str) -> None:
    done = invoke(f"--advertise-host={host}")
    assert done.exit_code == 2
    assert f"--advertise-host is {host!r}: expected host:port" in done.output
    assert advertised == []
