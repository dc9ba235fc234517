"""Trace context in B3 headers (https://github.com/openzipkin/b3-propagation), as Zipkin's own libraries read them.

Why not the package's B3MultiFormat: it takes missing `x-b3-sampled` for "no" where B3 says "undecided", ignores a
lone `x-b3-sampled: 0`, drops the debug flag, and widens 64-bit trace ids.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context, get_value, set_value
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

__all__ = ["B3Propagator", "B3RootSampler", "b3_sampler", "is_debug"]

TRACE_ID = "x-b3-traceid"
SPAN_ID = "x-b3-spanid"
PARENT_SPAN_ID = "x-b3-parentspanid"
SAMPLED = "x-b3-sampled"
FLAGS = "x-b3-flags"
SINGLE = "b3"

_TRACE_ID = re.compile(r"[0-9a-fA-F]{16}(?:[0-9a-fA-F]{16})?")
_SPAN_ID = re.compile(r"[0-9a-fA-F]{16}")
# "true" and "false" were sent by early implementations.
_DECISIONS = {"1": True, "true": True, "d": True, "0": False, "false": False}
# Carries the debug flag from the parent to all spans below it: samplers hand the trace state on.
_DEBUG_STATE = TraceState([("b3", "debug")])
_DECISION_KEY = "meshkit-b3-decision"


@dataclass(frozen=True, slots=True)
class _Decision:
    """A sampling decision that came without ids: it is for the trace that starts here."""

    sampled: bool
    debug: bool


def is_debug(context: SpanContext) -> bool:
    """Whether the caller asked for this trace to be kept in any case (`x-b3-flags: 1`)."""
    return bool(context.trace_state) and context.trace_state.get("b3") == "debug"


class B3Propagator(TextMapPropagator):
    """Reads multi and single headers, writes multi headers with the sampling decision always among them.

    Trace ids of 64 and of 128 bits keep their width. Headers that cannot be understood start a new trace.
    """

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Read the caller's span (or its bare sampling decision) into a context."""
        context = Context() if context is None else context

        def header(name: str) -> str | None:
            values = getter.get(carrier, name)
            return values[0].strip() if values else None

        return read_b3(header, context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write the current span for the callee; nothing where there is none."""
        for name, value in headers_of(trace.get_current_span(context)):
            setter.set(carrier, name, value)

    @property
    def fields(self) -> set[str]:
        """The headers that `inject` may set."""
        return {TRACE_ID, SPAN_ID, PARENT_SPAN_ID, SAMPLED, FLAGS}


def headers_of(span: trace.Span) -> tuple[tuple[str, str], ...]:
    """A span's context as headers for the callee; none where the span has no valid one."""
    own = span.get_span_context()
    if not own.is_valid:
        return ()
    headers = [
        (TRACE_ID, f"{own.trace_id:0{32 if own.trace_id >> 64 else 16}x}"),
        (SPAN_ID, f"{own.span_id:016x}"),
        (SAMPLED, "1" if own.trace_flags & TraceFlags.SAMPLED else "0"),
    ]
    if (parent := getattr(span, "parent", None)) is not None:
        headers.append((PARENT_SPAN_ID, f"{parent.span_id:016x}"))
    if is_debug(own):
        headers.append((FLAGS, "1"))
    return tuple(headers)


def single_header_of(span: trace.Span) -> tuple[tuple[str, str], ...]:
    """A span's context as the single header `b3`; none where the span has no valid one."""
    own = span.get_span_context()
    if not own.is_valid:
        return ()
    decision = "d" if is_debug(own) else "1" if own.trace_flags & TraceFlags.SAMPLED else "0"
    value = f"{own.trace_id:0{32 if own.trace_id >> 64 else 16}x}-{own.span_id:016x}-{decision}"
    if (parent := getattr(span, "parent", None)) is not None:
        value = f"{value}-{parent.span_id:016x}"
    return ((SINGLE, value),)


def b3_sampler() -> Sampler:
    """Samples as the caller decided, and all traces that start here or that the caller left undecided."""
    return ParentBased(root=B3RootSampler())


class B3RootSampler(Sampler):
    """For traces that start here: as the caller decided, if it sent a decision without ids.

    Args:
        otherwise: decides on the others. Default: all are sampled.
    """

    def __init__(self, otherwise: Sampler = ALWAYS_ON) -> None:
        self._otherwise = otherwise

    def should_sample(  # noqa: PLR0917 - the interface's
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Decide on a trace that starts here (opentelemetry.sdk.trace.sampling.Sampler)."""
        decision = get_value(_DECISION_KEY, parent_context)
        if not isinstance(decision, _Decision):
            # The default, without a call that copies the attributes.
            if self._otherwise is ALWAYS_ON:
                return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
            return self._otherwise.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if not decision.sampled:
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, _DEBUG_STATE if decision.debug else None)

    def get_description(self) -> str:  # noqa: D102
        return f"B3 root, else {self._otherwise.get_description()}"


def read_b3(header: Callable[[str], str | None], context: Context) -> Context:
    """The context with the caller's span, or its bare decision; as it was where there is neither."""
    single = header(SINGLE)
    if single is not None and (found := _from_single(single, context)) is not None:
        return found
    sampled = header(SAMPLED)
    debug = header(FLAGS) == "1"
    decision = True if debug else _DECISIONS.get(sampled.lower()) if sampled else None
    return _into(context, header(TRACE_ID), header(SPAN_ID), decision, debug)


def _from_single(text: str, context: Context) -> Context | None:
    """`{trace id}-{span id}[-{decision}[-{parent span id}]]`, or a decision alone; None: malformed."""
    parts = text.split("-")
    if len(parts) == 1 and parts[0] in _DECISIONS:
        return _into(context, None, None, _DECISIONS[parts[0]], parts[0] == "d")
    if not 2 <= len(parts) <= 4 or not (_TRACE_ID.fullmatch(parts[0]) and _SPAN_ID.fullmatch(parts[1])):
        return None
    decision = parts[2] if len(parts) > 2 else None
    if decision is not None and decision not in _DECISIONS:
        return None
    return _into(context, parts[0], parts[1], _DECISIONS.get(decision or ""), decision == "d")


def _into(context: Context, trace_id: str | None, span_id: str | None, decision: bool | None, debug: bool) -> Context:
    if trace_id and span_id and _TRACE_ID.fullmatch(trace_id) and _SPAN_ID.fullmatch(span_id):
        parent = SpanContext(
            trace_id=int(trace_id, 16),
            span_id=int(span_id, 16),
            is_remote=True,
            # Undecided is for us to decide: we sample.
            trace_flags=TraceFlags(TraceFlags.DEFAULT if decision is False else TraceFlags.SAMPLED),
            trace_state=_DEBUG_STATE if debug else None,
        )
        if parent.is_valid:
            return trace.set_span_in_context(trace.NonRecordingSpan(parent), context)
    if decision is not None:
        return set_value(_DECISION_KEY, _Decision(decision, debug), context)
    return context
