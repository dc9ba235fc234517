"""Options about a program's traces: a flag wins over a variable of OpenTelemetry, that over a default."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import click
from click.core import ParameterSource

from meshkit.program.flags import OTLP_URL, ZIPKIN_URL, FiniteRange, NameList
from meshkit.tracing import PROPAGATORS, SAMPLERS, Propagation, TraceSettings
from meshkit.tracing.sampling import DEFAULT_SAMPLER
from meshkit.tracing.settings import EXPORTERS, checked_exporters

__all__ = ["Tracing", "trace_options", "tracing_of"]

# Flags, each with the setting that it sets.
SETTINGS = {
    "traces": "exporters",
    "zipkin": "zipkin",
    "otlp": "otlp",
    "propagators": "propagators",
    "sampler": "sampler",
    "sampler_arg": "ratio",
}


@dataclass(frozen=True, slots=True)
class Tracing:
    """What the flags say of a program's traces.

    Args:
        defaults: of flags that were not given.
        given: what was given, by flag or by the program's own variable (`BOOK_SERVER_ZIPKIN`).
    """

    defaults: TraceSettings = field(default_factory=TraceSettings)
    given: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> TraceSettings:
        """The settings, with OpenTelemetry's variables; logs which of those cannot be used."""
        return replace(self.defaults.with_environment(os.environ), **self.given)


def trace_options() -> tuple[Callable[[Any], Any], ...]:
    """--zipkin, --traces, --otlp, --propagators, --sampler, --sampler-arg."""
    return (
        click.option(
            "--zipkin",
            type=ZIPKIN_URL,
            default="http://127.0.0.1:9411/api/v2/spans",
            help="Where to send spans; off: nowhere. For https, SSL_CERT_FILE may name authorities of your own.",
        ),
        click.option(
            "--traces",
            type=NameList(EXPORTERS, checked_exporters),
            default="zipkin",
            help="How to send them: zipkin to --zipkin, otlp to --otlp, both, or none.",
        ),
        click.option(
            "--otlp",
            type=OTLP_URL,
            default=TraceSettings().otlp,
            help="Where to post them as OTLP (HTTP, JSON).",
        ),
        click.option(
            "--propagators",
            type=NameList(PROPAGATORS, Propagation),
            default="b3multi",
            help=f"Headers that carry a trace: {', '.join(PROPAGATORS)}. All of them are read.",
        ),
        click.option("--sampler", type=click.Choice(SAMPLERS), default=DEFAULT_SAMPLER, help="Which traces are kept."),
        click.option(
            "--sampler-arg",
            type=FiniteRange(0, 1),
            default=1.0,
            help="Share of the traces that the samplers by trace id ratio keep.",
        ),
    )


def tracing_of(flags: dict[str, Any]) -> Tracing:
    """Take out of the flags those about traces, for the command that runs."""
    context = click.get_current_context()
    values = {setting: flags.pop(flag) for flag, setting in SETTINGS.items()}
    default = {
        setting for flag, setting in SETTINGS.items() if context.get_parameter_source(flag) is ParameterSource.DEFAULT
    }
    return Tracing(
        TraceSettings(**{setting: value for setting, value in values.items() if setting in default}),
        {setting: value for setting, value in values.items() if setting not in default},
    )
