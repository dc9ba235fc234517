"""A flag wins over the program's own variable, that over OpenTelemetry's, that over the default."""

from __future__ import annotations

from typing import Any

import click
import pytest

from meshkit.program.trace_flags import Tracing, trace_options, tracing_of
from meshkit.tracing import TraceSettings

DEFAULT_ZIPKIN = "http://127.0.0.1:9411/api/v2/spans"


def settings_of(*flags: str) -> TraceSettings:
    found: list[Tracing] = []

    def program(**values: Any) -> None:
        found.append(tracing_of(values))

    for option in trace_options():
        program = option(program)
    command = click.command("program")(program)
    command.main(list(flags), auto_envvar_prefix="PROGRAM", standalone_mode=False)
    return found[0].settings()


def test_without_flags_and_variables_the_defaults_hold() -> None:
    assert settings_of() == TraceSettings(zipkin=DEFAULT_ZIPKIN)


FLAGS = pytest.mark.parametrize(
    ("field", "flag", "variable", "values"),
    [
        ("propagators", "--propagators", "OTEL_PROPAGATORS", ("b3", "tracecontext", "none")),
        ("sampler", "--sampler", "OTEL_TRACES_SAMPLER", ("always_on", "always_off", "traceidratio")),
        ("ratio", "--sampler-arg", "OTEL_TRACES_SAMPLER_ARG", ("0.1", "0.2", "0.3")),
        ("exporters", "--traces", "OTEL_TRACES_EXPORTER", ("otlp", "zipkin,otlp", "none")),
        ("otlp", "--otlp", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ("http://a", "http://b", "http://c")),
        ("zipkin", "--zipkin", "OTEL_EXPORTER_ZIPKIN_ENDPOINT", ("http://a", "http://b", "http://c")),
    ],
)


@FLAGS
def test_the_order_of_flag_and_variables(
    field: str, flag: str, variable: str, values: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*flags: str) -> str:
        value = getattr(settings_of(*flags), field)
        return ",".join(value) if isinstance(value, tuple) else str(value)

    monkeypatch.setenv(variable, values[0])
    assert found() == values[0]
    monkeypatch.setenv("PROGRAM_" + flag.strip("-").replace("-", "_").upper(), values[1])
    assert found() == values[1]
    assert found(flag, values[2]) == values[2]


def test_zipkin_off_wins_over_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "http://zipkin:9411/api/v2/spans")
    assert settings_of("--zipkin", "off").zipkin is None


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--propagators", "xray"),
        ("--propagators", "b3,none"),
        ("--propagators", ""),
        ("--sampler-arg", "2"),
        ("--traces", "console"),
        ("--otlp", "off"),
    ],
)
def test_a_flag_of_no_use_is_refused(flag: str, value: str) -> None:
    with pytest.raises(click.BadParameter, match=r"expected|not in the range"):
        settings_of(flag, value)
