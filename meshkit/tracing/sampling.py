"""Which traces are kept, by OpenTelemetry's names: what OTEL_TRACES_SAMPLER may say.

Source: OpenTelemetry specification, `specification/trace/sdk.md`, "Sampling". The decision is made once, where a trace
begins, and travels with it; a ratio is of trace ids, so that all programs with the same ratio keep the same traces.
"""

from __future__ import annotations

from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, TraceIdRatioBased

from meshkit.tracing.b3 import B3RootSampler

__all__ = ["DEFAULT_SAMPLER", "SAMPLERS", "sampler_of"]

_PARENT_BASED = "parentbased_"
_RULES = ("always_on", "always_off", "traceidratio")
SAMPLERS = (*_RULES, *(f"{_PARENT_BASED}{rule}" for rule in _RULES))
DEFAULT_SAMPLER = "parentbased_always_on"


def sampler_of(name: str, ratio: float = 1.0) -> tuple[Sampler, bool]:
    """The sampler of that name, and whether it is asked for the first span of a trace only.

    Args:
        name: one of SAMPLERS. With `parentbased_` in front the caller's decision holds, also where it came alone
            (`x-b3-sampled: 0`); without, each program decides anew.
        ratio: share of the traces that the ratio's samplers keep, 0 to 1. Default 1.

    Raises:
        ValueError: no such name or ratio.
    """
    if name not in SAMPLERS:
        raise ValueError(f"expected one of {', '.join(SAMPLERS)}, got {name}")
    rule = {
        "always_on": ALWAYS_ON,
        "always_off": ALWAYS_OFF,
        "traceidratio": TraceIdRatioBased(ratio),
    }[name.removeprefix(_PARENT_BASED)]
    if name.startswith(_PARENT_BASED):
        return B3RootSampler(rule), True
    return rule, False
