"""The flags of both programs, as click knows them from the programs' entry points."""

from collections.abc import Callable
from typing import Any

import book_client.__main__ as book_client
import book_server.__main__ as book_server
import click
import pytest

from tests.support.golden import check_golden


def test_flags_variables_defaults_and_types(monkeypatch: pytest.MonkeyPatch) -> None:
    check_golden(
        "flags",
        {
            "book-server": flags_of(book_server.main, monkeypatch),
            "book-client": flags_of(book_client.main, monkeypatch),
        },
    )


def flags_of(main: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What there is to say of each flag but its help text, in the order of `--help`."""
    started: list[click.Context] = []

    def start(command: click.Command, *, auto_envvar_prefix: str, **_: Any) -> None:
        started.append(
            command.make_context(command.name, [], resilient_parsing=True, auto_envvar_prefix=auto_envvar_prefix)
        )

    monkeypatch.setattr(click.Command, "main", start)
    with pytest.raises(SystemExit):
        main()
    (context,) = started
    return {"/".join(flag.opts): _facts(flag, context) for flag in context.command.params}


def _facts(flag: click.Parameter, context: click.Context) -> dict[str, Any]:
    assert isinstance(flag, click.Option)
    flag.show_envvar = True
    shown = flag.get_help_extra(context)
    facts = {
        "variable": ", ".join(shown.pop("envvars", ())),
        "metavar": flag.make_metavar(context),
        "type": flag.type.name,
        **shown,
    }
    return {name: fact for name, fact in facts.items() if fact}
