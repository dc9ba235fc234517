"""How a program traces: as OpenTelemetry's environment variables say, unless the program says otherwise.

Source: OpenTelemetry specification, `specification/configuration/sdk-environment-variables.md`. As it asks for, an
empty variable counts as one that is not there, and a value that cannot be used is ignored with a log line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import structlog

from meshkit.tracing.attributes import NEW, OLD, OLD_AND_NEW, Conventions
from meshkit.tracing.collector import checked_headers, checked_url
from meshkit.tracing.propagation import PROPAGATORS, Propagation
from meshkit.tracing.sampling import DEFAULT_SAMPLER, sampler_of

__all__ = ["EXPORTERS", "TraceSettings", "checked_exporters"]

log = structlog.stdlib.get_logger(__name__)

EXPORTERS = ("zipkin", "otlp", "none")

MAX_SHOWN = 80
MAX_MILLISECONDS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """What can be set; the defaults are the mesh's, where OpenTelemetry's differ.

    Args:
        exporters: where spans go: `zipkin`, `otlp`, both, or `none`. Default: `zipkin`.
        zipkin: the URL of Zipkin's collector; None: no trace begins here, those of callers are passed on.
        zipkin_timeout: seconds that a post to it may take. Default 8; OpenTelemetry's is 10.
        otlp: the URL that OTLP's exporter posts to. Default: `http://localhost:4318/v1/traces`.
        otlp_protocol: `http/json`, the only one that there is.
        otlp_headers: sent with each post. Default: none.
        otlp_timeout: seconds that a post may take. Default 10.
        otlp_gzip: whether posts are compressed. Default: not.
        otlp_ca: authorities of its certificate (PEM). Default: the system's.
        otlp_cert: a certificate of one's own (PEM). Default: none.
        otlp_key: its private key (PEM).
        propagators: the headers that carry a trace, see `Propagation`. Default: `b3multi`.
        sampler: which traces are kept, see `sampler_of`. Default: `parentbased_always_on`.
        ratio: share of the traces that a sampler by ratio keeps, 0 to 1. Default 1.
        service: the service's name. Default: the program's.
        resource: what else the spans tell of the program, see `resource_of`.
        conventions: names of the spans' attributes. Default: those up to v1.37.
        disabled: nothing is recorded nor sent; no trace begins here, those of callers are passed on.
    """

    exporters: tuple[str, ...] = ("zipkin",)
    zipkin: str | None = None
    zipkin_timeout: float = 8.0
    otlp: str = "http://localhost:4318/v1/traces"
    otlp_headers: Mapping[str, str] = field(default_factory=dict)
    otlp_protocol: str = "http/json"
    otlp_timeout: float = 10.0
    otlp_gzip: bool = False
    otlp_ca: Path | None = None
    otlp_cert: Path | None = None
    otlp_key: Path | None = None
    propagators: tuple[str, ...] = ("b3multi",)
    sampler: str = DEFAULT_SAMPLER
    ratio: float = 1.0
    service: str | None = None
    resource: Mapping[str, str] = field(default_factory=dict)
    conventions: Conventions = OLD
    disabled: bool = False

    def with_environment(self, environment: Mapping[str, str]) -> TraceSettings:
        """The settings where the variables of OpenTelemetry that are there and of use have been put in."""
        found: dict[str, Any] = {}
        for variable, (setting, read) in _VARIABLES.items():
            text = environment.get(variable, "").strip()
            if not text:
                continue
            try:
                found[setting] = read(text)
            except ValueError as error:
                # Not its value, which may hold a password.
                log.warning("variable ignored", variable=variable, reason=str(error))
        return replace(self, **found)


def checked_exporters(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    Raises:
        ValueError: one that is not known, or `none` beside others.
    """
    names = tuple(dict.fromkeys(names))
    if not names or not set(names) <= set(EXPORTERS) or ("none" in names and len(names) > 1):
        raise ValueError(f"expected zipkin, otlp, both, or none; got {','.join(names)[:MAX_SHOWN]}")
    return names


def _known_of(text: str, known: Sequence[str], variable: str) -> tuple[str, ...]:
    """The names that are known, if there is any; else all, to be refused."""
    names = tuple(name.strip() for name in text.split(","))
    found = tuple(name for name in names if name in known)
    if found and len(found) < len(names):
        unknown = ",".join(name for name in names if name not in known)
        log.warning("variable ignored", variable=variable, reason=f"in part: no {unknown[:MAX_SHOWN]} here")
    return found or names


def _propagators(text: str) -> tuple[str, ...]:
    return Propagation(_known_of(text, PROPAGATORS, "OTEL_PROPAGATORS")).names


def _exporters(text: str) -> tuple[str, ...]:
    return checked_exporters(_known_of(text, EXPORTERS, "OTEL_TRACES_EXPORTER"))


def _milliseconds(text: str) -> float:
    if not text.isdecimal() or not text.isascii() or not 0 < (number := int(text[:10])) <= MAX_MILLISECONDS:
        raise ValueError(f"expected milliseconds, 1 to {MAX_MILLISECONDS}")
    return number / 1000


def _base_url(text: str) -> str:
    return checked_url(f"{text.rstrip('/')}/v1/traces")


def _pairs(text: str) -> dict[str, str]:
    """`name=value[,name=value...]`, percent-encoded."""
    pairs = {}
    for entry in text.split(","):
        name, equals, value = entry.partition("=")
        if not equals or not name.strip():
            raise ValueError("expected name=value,..., percent-encoded")
        pairs[name.strip()] = unquote(value.strip())
    return pairs


def _headers(text: str) -> dict[str, str]:
    return checked_headers(_pairs(text))


def _conventions(text: str) -> Conventions:
    """Of a list for all kinds of spans what concerns RPC."""
    kinds = {kind.strip() for kind in text.split(",")}
    return OLD_AND_NEW if "rpc/dup" in kinds else NEW if "rpc" in kinds else OLD


def _gzip(text: str) -> bool:
    if text not in {"gzip", "none"}:
        raise ValueError("expected gzip or none")
    return text == "gzip"


def _protocol(text: str) -> str:
    if text != "http/json":
        raise ValueError("only http/json is spoken, and used")
    return text


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


_OTLP: dict[str, tuple[str, Callable[[str], Any]]] = {
    "PROTOCOL": ("otlp_protocol", _protocol),
    "HEADERS": ("otlp_headers", _headers),
    "TIMEOUT": ("otlp_timeout", _milliseconds),
    "COMPRESSION": ("otlp_gzip", _gzip),
    "CERTIFICATE": ("otlp_ca", Path),
    "CLIENT_CERTIFICATE": ("otlp_cert", Path),
    "CLIENT_KEY": ("otlp_key", Path),
}
# Each with the setting that it sets; the later wins.
_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "OTEL_SDK_DISABLED": ("disabled", _is_true),
    "OTEL_PROPAGATORS": ("propagators", _propagators),
    "OTEL_TRACES_SAMPLER": ("sampler", _sampler),
    "OTEL_TRACES_SAMPLER_ARG": ("ratio", _ratio),
    "OTEL_SERVICE_NAME": ("service", str),
    "OTEL_RESOURCE_ATTRIBUTES": ("resource", _pairs),
    "OTEL_SEMCONV_STABILITY_OPT_IN": ("conventions", _conventions),
    "OTEL_TRACES_EXPORTER": ("exporters", _exporters),
    "OTEL_EXPORTER_ZIPKIN_ENDPOINT": ("zipkin", checked_url),
    "OTEL_EXPORTER_ZIPKIN_TIMEOUT": ("zipkin_timeout", _milliseconds),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("otlp", _base_url),
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ("otlp", checked_url),
    **{f"OTEL_EXPORTER_OTLP_{name}": setting for name, setting in _OTLP.items()},
    **{f"OTEL_EXPORTER_OTLP_TRACES_{name}": setting for name, setting in _OTLP.items()},
}
