import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import trustme
from book_client.__main__ import command as book_client
from book_server.__main__ import command as book_server
from structlog.testing import capture_logs

from meshkit import PemFiles
from meshkit.errors import EtcdError
from meshkit.etcd import EtcdLogin
from meshkit.program.cli import EtcdAccess, run
from meshkit.program.flags import ADDRESS, ADDRESSES, CERTIFICATE_NAMES, DURATION, PREFIX, ZIPKIN_URL, FiniteRange

SCRIPTS = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("200us", 0.0002), ("200µs", 0.0002), ("200ms", 0.2), ("1.5s", 1.5), ("1m30s", 90)],
)
def test_durations_are_written_as_in_go(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "ms", "-1s", "1 s", "nan", "1e400h", "one second"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a duration"):
        DURATION.convert(text, None, None)


OPTIONS = [parameter for command in (book_server, book_client) for parameter in command.params]


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1:50051", "[::1]:50051", "[::ffff:10.0.0.1]:1", "book-server-0.books.svc:1"),
        *("my_etcd:2379", "etcd.example.org.:2379", "1.2.3.4.example.org:1", "a" * 63 + ".b:1"),
    ],
)
def test_addresses(text: str) -> None:
    assert ADDRESS.convert(text, None, None) == text


@pytest.mark.parametrize("text", ["", ":50051", "host", "host:", "host:99999", "::1:50051", "a b:1", "host:-1"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected"):
        ADDRESS.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("300.1.1.1:50051", "Octet 300"),
        ("127.1:50051", "Expected 4 octets"),
        ("12345:50051", "Expected 4 octets"),
        ("[1:2]:50051", "At least 3 parts"),
        ("[127.0.0.1]:50051", "At least 3 parts"),
        ("a..b:2379", "1 to 63 characters"),
        ("a" * 64 + ".b:2379", "1 to 63 characters"),
    ],
)
def test_addresses_that_no_host_can_have_are_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(click.BadParameter, match=f"expected host:port, got .*: .*{why}"):
        ADDRESS.convert(text, None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_a_range_of_numbers_has_no_infinity_and_nothing_that_is_no_number(text: str) -> None:
    for anything in (FiniteRange(), FiniteRange(0), FiniteRange(0, 100, min_open=True)):
        with pytest.raises(click.BadParameter):
            anything.convert(text, None, None)
    assert FiniteRange(0).convert("0.5", None, None) == 0.5


def test_every_number_of_the_programs_has_such_a_range() -> None:
    numbers = [option for option in OPTIONS if isinstance(option.type, click.FloatRange)]
    assert {type(option.type) for option in numbers} == {FiniteRange}


def test_several_members_of_etcd() -> None:
    assert ADDRESSES.convert("a:1, b:2", None, None) == ("a:1", "b:2")


def test_names_of_certificates() -> None:
    names = "book-client, a.mesh.svc,spiffe://mesh/book-client,urn:x:1"
    assert CERTIFICATE_NAMES.convert(names, None, None) == tuple(names.replace(" ", "").split(","))
    # What can be in no certificate as a name would shut everybody out.
    for bad in ("", ",", "a,", "book client", "*.mesh", "10.0.0.1", "client:50051", "bücher", "-a", "a" * 300):
        with pytest.raises(click.BadParameter, match="expected DNS names or URIs"):
            CERTIFICATE_NAMES.convert(bad, None, None)


def test_zipkin_can_be_off() -> None:
    assert ZIPKIN_URL.convert("off", None, None) is None
    assert ZIPKIN_URL.convert("https://zipkin:9411/x", None, None) == "https://zipkin:9411/x"
    for bad in ("zipkin:9411", "http://", "ftp://zipkin", "http://zipkin:port"):
        with pytest.raises(click.BadParameter, match="or off"):
            ZIPKIN_URL.convert(bad, None, None)


def test_a_prefix_ends_with_a_slash() -> None:
    assert PREFIX.convert("/services/book/", None, None) == "/services/book/"
    for bad in ("", "/", "/services/book"):
        with pytest.raises(click.BadParameter, match='ends with "/"'):
            PREFIX.convert(bad, None, None)


@pytest.mark.parametrize(
    ("program", "flags"),
    [
        ("book-server", ["--listen", "nowhere"]),
        ("book-server", ["--advertise", "300.1.1.1:50051"]),
        ("book-server", ["--rate", "-1"]),
        ("book-server", ["--rate", "nan"]),
        ("book-server", ["--burst", "0"]),
        ("book-server", ["--lease-ttl", "0"]),
        ("book-server", ["--drain", "soon"]),
        ("book-server", ["--tls-client-names", "book-client"]),
        ("book-server", ["--tls-cert", __file__, "--tls-client-names", "book-client"]),
        ("book-server", ["--log-format", "xml"]),
        ("book-server", ["--log-level", "loud"]),
        ("book-server", ["--no-such-flag"]),
        ("book-server", ["stray"]),
        ("book-server", ["--etcd-ca", "no-such-file"]),
        ("book-server", ["--etcd-cert", "a", "--etcd-key", "b"]),
        ("book-server", ["--etcd-ca", "pyproject.toml"]),
        ("book-client", ["--etcd-user", "book"]),
        ("book-client", ["--etcd-user", "book", "--etcd-password-file", "no-such-file"]),
        ("book-client", ["--attempts", "0"]),
        ("book-client", ["--timeout", "0"]),
        ("book-client", ["--breaker-error-percent", "0"]),
        ("book-client", ["--concurrency", "x"]),
        ("book-client", ["--etcd", "a:1,,b:2"]),
        ("book-client", ["--etcd", "a..b:2379"]),
    ],
)
def test_a_bad_flag_is_one_line_and_exit_code_2(program: str, flags: list[str]) -> None:
    done = subprocess.run([SCRIPTS / program, *flags], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(program)


def test_a_bad_environment_variable_is_named() -> None:
    env = {"BOOK_SERVER_LEASE_TTL": "long", "PATH": ""}
    done = subprocess.run([SCRIPTS / "book-server"], capture_output=True, text=True, timeout=120, check=False, env=env)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "lease-ttl" in done.stderr
    assert "long" in done.stderr


@pytest.mark.parametrize("program", ["book-server", "book-client"])
def test_help_names_every_flag_with_its_default(program: str) -> None:
    done = subprocess.run([SCRIPTS / program, "--help"], capture_output=True, text=True, timeout=120, check=True)
    assert "--etcd-prefix" in done.stdout
    assert "/services/book/" in done.stdout


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: str(option.name))
def test_each_help_text_can_be_read_without_its_flag(option: click.Option) -> None:
    assert option.help
    first, *rest = option.help.split()
    assert first not in {"Of", "For", "From", "In", "To", "Its"}
    assert first[0].isupper()
    assert option.help.endswith(".")
    assert len(rest) >= 2


def raising(error: Exception) -> Callable[[], int]:
    def program() -> int:
        raise error

    return program


@pytest.mark.parametrize("error", [OSError("port 1 is taken"), EtcdError("permission denied")], ids=["OSError", "mesh"])
def test_what_goes_wrong_in_a_program_is_one_line_and_exit_code_1(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit) as exit_:
        run(click.command("program")(raising(error)), "PROGRAM")
    assert exit_.value.code == 1
    assert capsys.readouterr().err == f"program: {error}\n"


@pytest.mark.parametrize(
    ("program", "code"),
    [(lambda: 3, 3), (lambda: None, 0), (raising(click.exceptions.Exit(4)), 4), (raising(click.Abort()), 130)],
    ids=["returns 3", "returns nothing", "exits by click", "is interrupted"],
)
def test_a_program_ends_with_its_own_exit_code(
    program: Callable[[], int | None], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit) as exit_:
        run(click.command("program")(program), "PROGRAM")
    assert exit_.value.code == code


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_password_that_goes_to_etcd_in_plaintext_is_warned_of(encrypted: bool, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")

    async def client() -> None:
        tls = PemFiles(tmp_path / "ca.pem") if encrypted else None
        await EtcdAccess(("127.0.0.1:2379",), tls, EtcdLogin("book", tmp_path / "password")).client().close()

    with capture_logs() as logs:
        asyncio.run(client())
    warned = [entry for entry in logs if entry["event"] == "password is sent to etcd in plaintext"]
    assert [entry["user"] for entry in warned] == ([] if encrypted else ["book"])
    assert "secret" not in str(logs)
