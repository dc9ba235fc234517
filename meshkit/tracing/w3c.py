"""Trace context and baggage as the W3C has them: the headers `traceparent`, `tracestate` and `baggage`.

Sources: https://www.w3.org/TR/trace-context/ and https://www.w3.org/TR/baggage/. Why not the API's propagators: they go
through carriers, getters and setters, and write a caller's malformed header into the log.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, unquote

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.trace.span import TraceState

__all__ = ["baggage_headers", "read_baggage", "read_traceparent", "traceparent_headers"]

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
BAGGAGE = "baggage"

# What a baggage is taken and passed on up to; W3C asks for at least that much.
MAX_BAGGAGE_ENTRIES = 64
MAX_BAGGAGE_BYTES = 8192
# What a tracestate is taken up to: 32 entries of 512 characters would be possible, 512 in all are asked for.
MAX_TRACESTATE_BYTES = 2048
MAX_TRACESTATE_ENTRIES = 32

# A later version may have more fields, after a dash.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE_ENTRY = re.compile(r"([a-z0-9][a-z0-9_*/@-]{0,255})=([ -+\--<>-~]{0,255}[!-+\--<>-~])")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE_SAFE = "!#$&'()*+-./:<=>?@[]^_`{|}~"
_PASSED_FLAGS = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID

Header = Callable[[str], str | None]


def traceparent_headers(span: trace.Span) -> tuple[tuple[str, str], ...]:
    """A span's context as `traceparent`, with `tracestate` where it has one; none where it has no valid context."""
    own = span.get_span_context()
    if not own.is_valid:
        return ()
    parent = f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags & _PASSED_FLAGS:02x}"
    if own.trace_state:
        return ((TRACEPARENT, parent), (TRACESTATE, own.trace_state.to_header()))
    return ((TRACEPARENT, parent),)


def read_traceparent(header: Header, context: Context) -> Context:
    """The context with the caller's span; as it was where there is no valid `traceparent`."""
    found = _TRACEPARENT.fullmatch(header(TRACEPARENT) or "")
    # Of version 00 nothing may follow.
    if found is None or (found[1] == "00" and found[5] is not None):
        return context
    parent = SpanContext(
        trace_id=int(found[2], 16),
        span_id=int(found[3], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(found[4], 16) & _PASSED_FLAGS),
        trace_state=_state(header(TRACESTATE)),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), context) if parent.is_valid else context


def _state(text: str | None) -> TraceState | None:
    """None where there is none, or one that is malformed or too long: W3C wants all of it dropped then."""
    if not text or len(text) > MAX_TRACESTATE_BYTES:
        return None
    entries = [_STATE_ENTRY.fullmatch(entry.strip(" \t")) for entry in text.split(",") if entry.strip(" \t")]
    if not all(entries) or len(entries) > MAX_TRACESTATE_ENTRIES:
        return None
    return TraceState([(entry[1], entry[2]) for entry in entries if entry])


def baggage_headers() -> tuple[tuple[str, str], ...]:
    """The current baggage, as far as its bounds go; entries beyond them are left out."""
    entries = baggage.get_all()
    if not entries:
        return ()
    parts: list[str] = []
    length = -1
    for name, value in entries.items():
        part = f"{name}={quote(str(value), safe=_VALUE_SAFE)}"
        if len(parts) == MAX_BAGGAGE_ENTRIES or length + 1 + len(part) > MAX_BAGGAGE_BYTES:
            break
        if _TOKEN.fullmatch(name):
            parts.append(part)
            length += 1 + len(part)
    return ((BAGGAGE, ",".join(parts)),) if parts else ()


def read_baggage(header: Header, context: Context) -> Context:
    """The context with the caller's baggage; one that is too long is left out, as are entries that are malformed.

    Properties of an entry (`name=value;property`) are not kept.
    """
    text = header(BAGGAGE)
    if not text or len(text) > MAX_BAGGAGE_BYTES:
        return context
    for entry in text.split(",", MAX_BAGGAGE_ENTRIES)[:MAX_BAGGAGE_ENTRIES]:
        name, equals, value = entry.partition(";")[0].partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if equals and _TOKEN.fullmatch(name) and value.isascii() and value.isprintable():
            context = baggage.set_baggage(name, unquote(value, errors="replace"), context)
    return context
