import subprocess
import sys
from pathlib import Path

import click
import pytest

from meshkit.cli import ADDRESS, ADDRESSES, DURATION, PREFIX, ZIPKIN_URL

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


@pytest.mark.parametrize("text", ["127.0.0.1:50051", "[::1]:50051", "book-server-0.books.svc:1"])
def test_addresses(text: str) -> None:
    assert ADDRESS.convert(text, None, None) == text


@pytest.mark.parametrize("text", ["", ":50051", "host", "host:", "host:99999", "::1:50051", "a b:1", "host:-1"])
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected"):
        ADDRESS.convert(text, None, None)


def test_several_members_of_etcd() -> None:
    assert ADDRESSES.convert("a:1, b:2", None, None) == ("a:1", "b:2")


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
        ("book-server", ["--rate", "-1"]),
        ("book-server", ["--burst", "0"]),
        ("book-server", ["--lease-ttl", "0"]),
        ("book-server", ["--drain", "soon"]),
        ("book-server", ["--log-format", "xml"]),
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
    ],
)
def test_a_bad_flag_is_one_line_and_exit_code_2(program: str, flags: list[str]) -> None:
    done = subprocess.run([SCRIPTS / program, *flags], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(program)


def test_a_bad_environment_variable_is_named() -> None:
    env = {"BOOK_SERVER_LEASE_TTL": "long", "PATH": ""}
    done = subprocess.run([SCRIPTS / "book-server"], capture_output=True, text=True, timeout=30, check=False, env=env)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "lease-ttl" in done.stderr
    assert "long" in done.stderr


@pytest.mark.parametrize("program", ["book-server", "book-client"])
def test_help_names_every_flag_with_its_default(program: str) -> None:
    done = subprocess.run([SCRIPTS / program, "--help"], capture_output=True, text=True, timeout=30, check=True)
    assert "--etcd-prefix" in done.stdout
    assert "/services/book/" in done.stdout
