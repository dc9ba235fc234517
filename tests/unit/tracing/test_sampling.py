"""Which traces are kept."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision

from meshkit.tracing import SAMPLERS, TraceSettings, tracer_provider
from meshkit.tracing.propagation import DEFAULT_PROPAGATION
from meshkit.tracing.sampling import sampler_of

SPAN = "a2fb4a1d1a96d312"
KEPT = Decision.RECORD_AND_SAMPLE


def tracer_of(settings: TraceSettings) -> trace.Tracer:
    provider = tracer_provider("test", settings=settings)
    provider.add_span_processor(SpanProcessor())
    return provider.get_tracer("test")


def sampled(sampler: str, metadata: Any = (), ratio: float = 0.5) -> bool:
    tracer = tracer_of(TraceSettings(sampler=sampler, ratio=ratio))
    span = tracer.start_span("call", DEFAULT_PROPAGATION.extracted(metadata))
    return span.get_span_context().trace_flags.sampled


YES, NO = [("b3", f"{'7' * 32}-{SPAN}-1")], [("b3", f"{'7' * 32}-{SPAN}-0")]


@pytest.mark.parametrize(
    ("sampler", "begun_here", "caller_says_yes", "caller_says_no"),
    [
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
    ],
)
def test_each_sampler_with_each_caller(
    sampler: str, begun_here: bool, caller_says_yes: bool, caller_says_no: bool
) -> None:
    found = sampled(sampler), sampled(sampler, YES), sampled(sampler, NO)
    assert found == (begun_here, caller_says_yes, caller_says_no)


@pytest.mark.parametrize("sampler", ["parentbased_always_off", "parentbased_traceidratio"])
def test_a_decision_that_comes_alone_is_the_callers(sampler: str) -> None:
    assert sampled(sampler, [("x-b3-sampled", "1")], ratio=0)
    assert not sampled(sampler, [("x-b3-sampled", "0")], ratio=1)


def test_a_ratio_keeps_its_share_within_three_sigma_and_the_same_traces_everywhere() -> None:
    count, ratio = 20_000, 0.01
    random = Random(19)
    ids = [random.getrandbits(128) for _ in range(count)]
    rules = [sampler_of(name, ratio)[0] for name in ("traceidratio", "parentbased_traceidratio")]
    kept = [[i for i in ids if rule.should_sample(Context(), i, "call").decision is KEPT] for rule in rules]
    assert kept[0] == kept[1]
    assert abs(len(kept[0]) - count * ratio) <= 3 * math.sqrt(count * ratio * (1 - ratio))


def test_all_spans_of_a_trace_are_kept_or_none() -> None:
    tracer = tracer_of(TraceSettings(sampler="traceidratio", ratio=0.5))
    for _ in range(50):
        root = tracer.start_span("root")
        child = tracer.start_span("child", trace.set_span_in_context(root))
        flags = [span.get_span_context().trace_flags.sampled for span in (root, child)]
        assert flags in ([True, True], [False, False])


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_is_there(name: str) -> None:
    sampler, parent_based = sampler_of(name, 0.25)
    assert parent_based == name.startswith("parentbased_")
    assert sampler.get_description()


def test_a_sampler_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one of always_on, .*, got jaeger_remote"):
        sampler_of("jaeger_remote")
