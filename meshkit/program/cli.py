"""Options that programs in the mesh share, and how such a program is run, with click.

Options can also be given as environment variables (click's `auto_envvar_prefix`). A bad value is one line on standard
error and exit code 2.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
import structlog

from meshkit.errors import MeshError
from meshkit.etcd import EtcdClient, EtcdLogin
from meshkit.program.admin_flags import admin_of, admin_options
from meshkit.program.flags import ADDRESSES, NAME, PREFIX
from meshkit.program.logs import LOG_FORMATS, LOG_LEVELS
from meshkit.program.text import printable, without_secrets
from meshkit.program.trace_flags import trace_options, tracing_of
from meshkit.tls.pem import PemFiles

__all__ = ["ETCD_FLAGS", "EtcdAccess", "log_options", "mesh_options", "run"]

log = structlog.stdlib.get_logger(__name__)

Command = Callable[..., Any]

# Characters of an error's line: a value in it may be long.
MAX_ERROR = 500

FILE = click.Path(path_type=Path)
ETCD_FLAGS = ("etcd", "etcd_ca", "etcd_cert", "etcd_key", "etcd_user", "etcd_password_file")


@dataclass(frozen=True, slots=True)
class EtcdAccess:
    """How to reach etcd, as the flags say."""

    endpoints: tuple[str, ...]
    tls: PemFiles | None
    login: EtcdLogin | None

    def client(self) -> EtcdClient:
        """Make a client; logs a warning when a password goes over the network in plaintext."""
        if self.login is not None and self.tls is None:
            log.warning("password is sent to etcd in plaintext", user=self.login.user, mend="--etcd-ca encrypts it")
        return EtcdClient(self.endpoints, tls=self.tls, login=self.login)


def mesh_options(prefix: str) -> Callable[[Command], Command]:
    """Options of every program in the mesh: of etcd, its traces, its admin port and its log.

    The command gets everything about reaching etcd as one argument, `etcd`: an EtcdAccess whose files were read.
    Everything about traces is another one, `tracing`: a `Tracing`; about the admin port, `admin`: `AdminFlags`.
    """
    options = (
        click.option("--etcd", type=ADDRESSES, default="127.0.0.1:2379", help="Members of one etcd cluster."),
        click.option("--etcd-ca", type=FILE, help="Authorities that sign etcd's certificate (PEM); none: plaintext."),
        click.option("--etcd-cert", type=FILE, help="Own certificate, for an etcd that asks for one (PEM)."),
        click.option("--etcd-key", type=FILE, help="Private key of --etcd-cert (PEM)."),
        click.option("--etcd-user", type=NAME, help="User to log in to etcd as."),
        click.option("--etcd-password-file", type=FILE, help="File with the password of --etcd-user."),
        click.option(
            "--etcd-prefix", type=PREFIX, default=prefix, help="Prefix of the keys that instances register under."
        ),
        *trace_options(),
        *admin_options(),
        log_options,
    )

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_access(**flags: Any) -> Any:
            access = {name: flags.pop(name) for name in tuple(flags) if name in ETCD_FLAGS}
            return command(etcd=_etcd_access(**access), tracing=tracing_of(flags), admin=admin_of(flags), **flags)

        decorated: Command = with_access
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _etcd_access(
    *,
    etcd: tuple[str, ...],
    etcd_ca: Path | None,
    etcd_cert: Path | None,
    etcd_key: Path | None,
    etcd_user: str | None,
    etcd_password_file: Path | None,
) -> EtcdAccess:
    if (etcd_cert is None) != (etcd_key is None) or (etcd_cert is not None and etcd_ca is None):
        raise click.UsageError("--etcd-cert and --etcd-key go together, and with --etcd-ca")
    if (etcd_user is None) != (etcd_password_file is None):
        raise click.UsageError("--etcd-user and --etcd-password-file go together")
    tls = PemFiles(etcd_ca, etcd_cert, etcd_key) if etcd_ca is not None else None
    login = EtcdLogin(etcd_user, etcd_password_file) if etcd_user and etcd_password_file else None
    try:
        if tls is not None:
            tls.read()
        if login is not None:
            login.password()
    except ValueError as error:
        raise click.UsageError(f"etcd: {error}") from error
    return EtcdAccess(etcd, tls, login)


def log_options(command: Command) -> Command:
    """Add --log-format and --log-level."""
    form = click.option(
        "--log-format", type=click.Choice(LOG_FORMATS), default="logfmt", help="Format of the log lines."
    )
    level = click.option(
        "--log-level", type=click.Choice(LOG_LEVELS), default="info", help="Level below which nothing is logged."
    )
    return form(level(command))


def run(command: click.Command, prefix: str) -> NoReturn:
    """Run a command and exit: its return value is the exit code, an OSError or MeshError one line and code 1.

    Args:
        command: returns its exit code, None for 0.
        prefix: of the environment variables, e.g. `BOOK_SERVER`.
    """
    _fill_standard_streams()
    try:
        code = command.main(auto_envvar_prefix=prefix, standalone_mode=False)
    except click.UsageError as error:
        name = error.ctx.command_path if error.ctx else command.name
        _fail(f"{name}: {error.format_message()}", error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (OSError, MeshError) as error:
        _forget_output()
        _fail(f"{command.name}: {error}", 1)
    sys.exit(code or 0)


def _fail(message: str, code: int) -> NoReturn:
    line = printable(" ".join(without_secrets(message).split()))
    click.echo(line if len(line) <= MAX_ERROR else f"{line[:MAX_ERROR]} ...", err=True)
    sys.exit(code)


def _fill_standard_streams() -> None:
    """Open closed standard streams (`>&-`): the next socket would get their number, and uvloop end the program."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free.
            os.open(os.devnull, os.O_RDWR)


def _forget_output() -> None:
    """Keep the interpreter from writing again at its end, with a traceback, what could not be written (a full disk)."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
