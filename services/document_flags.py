"""Writes docs/flags.md, the tables of the programs' flags, from the programs themselves.

python services/document_flags.py [--check]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from book_client.__main__ import command as book_client
from book_server.__main__ import command as book_server

PAGE = Path(__file__).parents[1] / "docs" / "flags.md"
HEADING = """# Flags

Generated from the programs by `make flag-docs`; `book-server --help` and `book-client --help` say the same.

Each flag can also be given as an environment variable: `--lease-ttl` of book-server is `BOOK_SERVER_LEASE_TTL`. A flag
wins over a variable. Durations are written as in Go: `200us`, `1.5s`, `1m30s`. For a bad value a program writes one
line to standard error and exits with code 2.

Variables of OpenTelemetry are read, too. A flag, or the program's own variable, wins over them; they win over the
default. A value that cannot be used is told of in the log and ignored.

| Variable | As |
|---|---|
| `OTEL_PROPAGATORS` | `--propagators`; unknown names are left out |
| `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | `--sampler`, `--sampler-arg` |
| `OTEL_TRACES_EXPORTER` | `--traces`; unknown names are left out |
| `OTEL_EXPORTER_ZIPKIN_ENDPOINT` | `--zipkin` |
| `OTEL_EXPORTER_ZIPKIN_TIMEOUT` | milliseconds that a post may take; 8000 |
| `OTEL_EXPORTER_OTLP_ENDPOINT` | `--otlp` without its `/v1/traces` |
| `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | `--otlp` |
| `OTEL_EXPORTER_OTLP_HEADERS` | headers of each post: `name=value,...`, percent-encoded |
| `OTEL_EXPORTER_OTLP_TIMEOUT` | milliseconds that a post may take; 10000 |
| `OTEL_EXPORTER_OTLP_COMPRESSION` | `gzip` or `none`, the default |
| `OTEL_EXPORTER_OTLP_CERTIFICATE` | file with the authorities that sign the collector's certificate (PEM) |
| `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`, `OTEL_EXPORTER_OTLP_CLIENT_KEY` | files of a certificate of one's own (PEM) |
| `OTEL_EXPORTER_OTLP_PROTOCOL` | `http/json`, the only one that is spoken |
| `OTEL_SERVICE_NAME` | name of the service, where spans have the program's name |
| `OTEL_RESOURCE_ATTRIBUTES` | what spans tell of the program: `name=value,...`, percent-encoded |
| `OTEL_SEMCONV_STABILITY_OPT_IN` | `rpc`: the new names of attributes; `rpc/dup`: old and new; see [wire.md](wire.md) |
| `OTEL_SDK_DISABLED` | `true`: no trace begins here, nothing is sent; those of callers are passed on |

Those of OTLP can be `OTEL_EXPORTER_OTLP_TRACES_...` too, which wins.

The defaults are those of the Go original. The chart sets livelier ones: see [values.md](values.md).
"""


def flags(command: click.Command) -> Iterator[tuple[str, str, str, str]]:
    """Name, kind of value, default and help text of each flag, in the order of the help page."""
    for option in command.params:
        if isinstance(option, click.Option):
            default = option.to_info_dict()["default"]
            shown = "" if default is None or option.is_flag else str(default)
            yield option.opts[0], _kind(option), shown, option.help or ""


def _kind(option: click.Option) -> str:
    if option.is_flag:
        return "none; off by default"
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{choice}`" for choice in option.type.choices)
    if isinstance(option.type, click.IntRange | click.FloatRange):
        return _range(option.type)
    return {"path": "file", "file": "file", "url": "URL"}.get(option.type.name, option.type.name)


def _range(kind: click.IntRange | click.FloatRange) -> str:
    name = "integer" if isinstance(kind, click.IntRange) else "number"
    bounds = []
    if kind.min is not None:
        bounds.append(f"{'above' if kind.min_open else 'at least'} {kind.min:,}")
    if kind.max is not None:
        bounds.append(f"{'below' if kind.max_open else 'at most'} {kind.max:,}")
    return ", ".join([name, *bounds])


def document() -> str:
    """The whole page."""
    parts = [HEADING]
    for command in (book_server, book_client):
        rows = (
            f"| `{name}` | {kind} | {f'`{default}`' if default else ''} | {text.replace('|', chr(92) + '|')} |"
            for name, kind, default, text in flags(command)
        )
        parts.append(
            f"\n## {command.name}\n\n| Flag | Value | Default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "".join(parts)


def main() -> None:
    """Write the page; with --check, fail where it is not what would be written."""
    page = document()
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(page)
    elif not PAGE.exists() or PAGE.read_text() != page:
        sys.exit("docs/flags.md is not what the programs say: run 'make flag-docs' and commit the result")
    else:
        print("docs/flags.md is up to date")


if __name__ == "__main__":
    main()
