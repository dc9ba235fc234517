import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.program.text import printable, without_secrets


@given(st.text(st.characters(exclude_categories=[])))
def test_nothing_that_a_terminal_obeys_is_left_of_any_text(text: str) -> None:
    shown = printable(text)
    assert all(each.isprintable() or unicodedata.category(each) == "Zs" for each in shown)
    shown.encode("utf-8")


def test_what_is_harmless_stays_as_it_is() -> None:
    assert printable("Go入门系列　é \U0001f4d6 \\x1b") == "Go入门系列　é \U0001f4d6 \\x1b"
    assert printable("\x1b[2J\r\n\x9b\u202e") == r"\x1b[2J\r\n\x9b\u202e"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("got 'http://user:S3cret@host:1/path?key=K3Y'", "got 'http://host:1/path"),
        ("got 'http://user:S3c/r@t@host:1/path#K3Y'", "got 'http://host:1/path"),
        ("got 'user:S3cret@host:2379'", "got 'host:2379'"),
        (
            "such as http://127.0.0.1:9411/spans, got 'htp://u:S3cret@h?K3Y'",
            "such as http://127.0.0.1:9411/spans, got 'htp://h",
        ),
        ("expected host:port, got 'a:b:c'?", "expected host:port, got 'a:b:c'?"),
    ],
)
def test_of_a_url_in_a_message_the_login_and_the_query_are_cut(message: str, shown: str) -> None:
    assert without_secrets(message) == shown
