"""Every flag of both programs with values that cannot be used: each is one line on standard error, exit code 2."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import book_client.__main__ as book_client
import book_server.__main__ as book_server
import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit.program.cli import MAX_ERROR, run

PROGRAMS: dict[str, Any] = {"book-server": book_server, "book-client": book_client}
FLAGS = [(name, flag) for name, program in PROGRAMS.items() for flag in program.command.params]
SECRET = "S3cret"

ANYWHERE = [
    *("", "\u0663", "\uff11\uff10", "\x1b[2J", "\u202e", "a\nb", "\udcff", "x" * 5000, " ", "\t"),
    f"http://user:{SECRET}@host:1/?key={SECRET}",
    f"user:{SECRET}@host:1",
]
NUMBERS = [
    *("inf", "-inf", "nan", "1e400", "-1", str(-(2**70)), str(2**70), "1_000", "0x10", "1,5", "1 0"),
    *("1" + "0" * 400, "9" * 5000),
]
DURATIONS = [f"{10**30}s", "1e400s", "-1ns", "infs", "nans", "1d", "1_0s", "8761h", "\u0663s", "9" * 3000 + "s"]
ADDRESSES = ["host:70000", "host:-1", "host:1:2", ":1", "host", "a b:1", "host:\u0661", "a" * 300 + ":1"]
URLS = [
    *(
        "http://",
        "http://host:0/",
        "http://host:70000/",
        "http://a b/",
        "http://host/\x1b",
        "http://h\u00f6st/",
        "//host",
    ),
    *("http://" + "a" * 64 + "/", "http://host/" + "x" * 5000, "http://[::1/", "javascript:alert(1)", "OFF", " off"),
]
PREFIXES = ["/", "a", "/a", "/\x1b/", "/\udcff/", "/" + "x" * 5000 + "/", "/a\n/"]
NAMES = ["", "\x1b", "\udcff", "x" * 300, "a\nb"]


@pytest.fixture(autouse=True)
def _not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags are taken or refused; nothing is started with them."""

    def taken(main: Any) -> int:
        main.close()
        return 0

    for program in PROGRAMS.values():
        monkeypatch.setattr(program, "run_async", taken)
        monkeypatch.setattr(program, "configure_logging", lambda *_: None)


def outcome(
    name: str, words: list[str], capsys: pytest.CaptureFixture[str], variables: dict[str, str] | None = None
) -> tuple[int, str]:
    """Exit code, and what is said."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *words])
        for variable, value in (variables or {}).items():
            patch.setenv(variable, value)
        with pytest.raises(SystemExit) as ended:
            run(PROGRAMS[name].command, name.upper().replace("-", "_"))
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


def refused(code: int, said: str) -> None:
    assert code == 2, f"taken, or {said}"
    assert said.endswith("\n")
    assert said[:-1].isprintable()
    assert len(said) <= MAX_ERROR + 5
    assert SECRET not in said


USELESS: dict[str, list[str]] = {
    "duration": [*ANYWHERE, *NUMBERS, *DURATIONS],
    "integer range": [*ANYWHERE, *NUMBERS],
    "float range": [*ANYWHERE, *NUMBERS],
    "choice": [*ANYWHERE, "LOGFMT"],
    # click takes a blank for a no.
    "boolean": [value for value in ANYWHERE if value.strip()],
    "file": ANYWHERE,
    "path": ANYWHERE,
    "host:port": [*ANYWHERE, *ADDRESSES],
    "host:port,...": [*ANYWHERE, *ADDRESSES, "host:1,"],
    "name,...": [*ANYWHERE, "a,", "10.0.0.1"],
    "prefix": [*ANYWHERE, *PREFIXES],
    "text": NAMES,
    # A login and a query it may have.
    "url": [*ANYWHERE[:-2], *URLS, f"htp://user:{SECRET}@host:1/?key={SECRET}", f"user:{SECRET}@host:1"],
}


@pytest.mark.parametrize(("name", "flag"), FLAGS, ids=lambda value: getattr(value, "name", value))
def test_what_a_flag_has_no_use_for_is_one_line_and_exit_code_2(
    name: str, flag: click.Option, capsys: pytest.CaptureFixture[str]
) -> None:
    variable = f"{name}_{flag.name}".upper().replace("-", "_")
    for value in USELESS[flag.type.name]:
        refused(*outcome(name, [f"{flag.opts[0]}={value}"], capsys))
        # An empty variable is one that is not set.
        if value:
            refused(*outcome(name, [], capsys, {variable: value}))


FILES: list[Callable[[Path], object]] = [
    os.mkfifo,
    Path.mkdir,
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to(path),
    lambda path: path.touch(),
    lambda path: path.write_bytes(b"x" * 3_000_000),
    lambda path: path.write_bytes(b"\x00\xff\x1b"),
    lambda path: None,
]


@pytest.mark.parametrize(
    "make", FILES, ids=["FIFO", "folder", "endless", "link to itself", "empty", "long", "bytes", "missing"]
)
@pytest.mark.parametrize(("name", "flag"), FLAGS, ids=lambda value: getattr(value, "name", value))
def test_what_is_no_file_is_not_waited_for(
    name: str, flag: click.Option, make: Callable[[Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "\x1b[31mfile"
    make(path)
    # What such a flag needs beside it.
    beside = {
        "etcd_password_file": ["--etcd-user=u"],
        "etcd_cert": [f"--etcd-ca={path}", f"--etcd-key={path}"],
        "etcd_key": [f"--etcd-ca={path}", f"--etcd-cert={path}"],
        "tls_cert": [f"--tls-key={path}", *([f"--tls-ca={path}"] if name == "book-client" else [])],
        "tls_key": [f"--tls-cert={path}", *([f"--tls-ca={path}"] if name == "book-client" else [])],
        "tls_client_ca": [f"--tls-cert={path}", f"--tls-key={path}"],
    }
    words = [f"{flag.opts[0]}={path}", *beside.get(str(flag.name), [])]
    refused(*outcome(name, words, capsys))


WORDS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.from_regex(r"[+-]?[0-9]{1,400}(\.[0-9]{1,5})?(e[0-9]{1,3})?(ns|us|ms|s|m|h)?", fullmatch=True),
    # No NUL and no lone surrogate: neither can be in an argument of a program.
    st.sampled_from([*ANYWHERE, *NUMBERS, *DURATIONS, *ADDRESSES, *URLS, *PREFIXES, *NAMES]),
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_any_values_are_taken_or_refused_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = st.sampled_from([flag.opts[0] for flag in PROGRAMS[name].command.params if not flag.is_flag])

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(flags, WORDS, max_size=3))
    def check(given_flags: dict[str, str]) -> None:
        code, said = outcome(name, [f"{flag}={value}" for flag, value in given_flags.items()], capsys)
        if code:
            refused(code, said)
        else:
            assert said == ""

    check()
