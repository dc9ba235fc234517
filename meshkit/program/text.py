"""Makes text of others safe for logs and errors: nothing that a terminal obeys, and no secrets in URLs."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["is_shown", "printable", "without_secrets"]

# From the last `//` before an `@`: greedy, as a password may hold any character.
_USER_INFO = re.compile(r"//(?:(?!//).)*@", re.DOTALL)
_LOGIN = re.compile(r"[^\s'\"/@]+:[^\s'\"]*@")
_ARGUMENTS = re.compile(r"[?&;][\w.~-]+=[^\s'\"]*")
_QUERY = re.compile(r"(//[^?#]*)[?#].*", re.DOTALL)


def is_shown(character: str) -> bool:
    """Whether a character is only shown: it is no control character, line end, bidi control or lone surrogate."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def printable(text: str) -> str:
    r"""Escape characters that are not only shown (`is_shown`), as Python's literals do: `\x1b`, `\n`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(each if is_shown(each) else each.encode("unicode_escape").decode("ascii") for each in text)


def without_secrets(message: str) -> str:
    """Cut what may be secret from the URL in a message: user and password, and everything from the query on."""
    return _ARGUMENTS.sub("", _QUERY.sub(r"\1", _LOGIN.sub("", _USER_INFO.sub("//", message))))
