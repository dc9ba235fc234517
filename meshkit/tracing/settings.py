"""How a program traces: as OpenTelemetry's environment variables say, unless the program says otherwise.

Source: OpenTelemetry specification, `specification/configuration/sdk-environment-variables.md`. As it asks for, an
empty variable counts as one that is not there, and a value that cannot be used is told of in the log and ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from meshkit.tracing.collector import checked_url
from meshkit.tracing.propagation import PROPAGATORS, Propagation
from meshkit.tracing.sampling import DEFAULT_SAMPLER, sampler_of

__all__ = ["TraceSettings"]

log = structlog.stdlib.get_logger(__name__)

MAX_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """What can be set; the defaults are the mesh's, where OpenTelemetry's differ.

    Args:
        zipkin: the URL of Zipkin's collector; None: no trace begins here, those of callers are passed on.
        propagators: the headers that carry a trace, see `Propagation`. Default: `b3multi`.
        sampler: which traces are kept, see `sampler_of`. Default: `parentbased_always_on`.
        ratio: share of the traces that a sampler by ratio keeps, 0 to 1. Default 1.
        disabled: nothing is recorded nor sent; no trace begins here, those of callers are passed on.
    """

    zipkin: str | None = None
    propagators: tuple[str, ...] = ("b3multi",)
    sampler: str = DEFAULT_SAMPLER
    ratio: float = 1.0
    disabled: bool = False

    def with_environment(self, environment: Mapping[str, str]) -> TraceSettings:
        """The settings where the variables of OpenTelemetry that are there and of use have been put in."""
        found: dict[str, Any] = {}
        for variable, (field, read) in _VARIABLES.items():
            text = environment.get(variable, "").strip()
            if not text:
                continue
            try:
                found[field] = read(text)
            except ValueError as error:
                # Not its value, which may hold a password.
                log.warning("variable ignored", variable=variable, reason=str(error))
        return replace(self, **found)


def _propagators(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    known = tuple(name for name in names if name in PROPAGATORS)
    if known and len(known) < len(names):
        unknown = ",".join(name for name in names if name not in PROPAGATORS)
        log.warning("variable ignored", variable="OTEL_PROPAGATORS", reason=f"in part: no {unknown[:MAX_SHOWN]} here")
    return Propagation(known or names).names


def _sampler(text: str) -> str:
    sampler_of(text)
    return text


def _ratio(text: str) -> float:
    if not 0 <= (ratio := float(text)) <= 1:
        raise ValueError("expected a number from 0 to 1")
    return ratio


def _is_true(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError("expected true or false")
    return text.lower() == "true"


_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "OTEL_SDK_DISABLED": ("disabled", _is_true),
    "OTEL_PROPAGATORS": ("propagators", _propagators),
    "OTEL_TRACES_SAMPLER": ("sampler", _sampler),
    "OTEL_TRACES_SAMPLER_ARG": ("ratio", _ratio),
    "OTEL_EXPORTER_ZIPKIN_ENDPOINT": ("zipkin", checked_url),
}
