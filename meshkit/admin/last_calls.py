"""The last calls of a program, read off its spans as they end: nothing is added to a call but the end of its spans."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, format_trace_id

from meshkit.tracing.attributes import SERVER_ADDRESS, SERVER_PORT, status_name

__all__ = ["LastCalls"]

Call = dict[str, Any]

KEPT = 100
# Calls under way of which attempts have ended; those of a call, which may be a stream's many.
UNDER_WAY, ATTEMPTS = 1000, 20
# Calls that are told of within a second: more than anybody can read are chosen from.
A_SECOND = 10


class LastCalls(SpanProcessor):
    """A processor of spans that keeps the last calls; add it to a tracer's provider.

    A call is a span whose parent is not in this program: its CLIENT spans are the attempts.
    """

    def __init__(self) -> None:
        self.kept: deque[Call] = deque(maxlen=KEPT)
        # Called with each call that is kept, from whichever thread ends its span.
        self.told: Callable[[Call], object] | None = None
        self._attempts: OrderedDict[int, list[dict[str, str]]] = OrderedDict()
        self._second = 0
        self._in_second = 0
        self._slowest = 0

    def on_end(self, span: ReadableSpan) -> None:
        """See SpanProcessor."""
        context, parent = span.get_span_context(), span.parent
        if context is None or span.end_time is None or span.start_time is None:
            return
        if span.kind is SpanKind.CLIENT and parent is not None and not parent.is_remote:
            self._note_attempt(context.trace_id, span)
        elif parent is None or parent.is_remote:
            attempts = self._attempts.pop(context.trace_id, [])
            if span.kind is SpanKind.CLIENT:
                attempts = [_attempt(span)]
            self._note_call(span, span.end_time - span.start_time, format_trace_id(context.trace_id), attempts)

    def failed_at(self, instance: str) -> str | None:
        """The trace of the last call that failed at an instance, in one of its attempts; None: none is known."""
        for call in reversed(self.kept):
            if any(each["instance"] == instance and each["code"] != "OK" for each in call["attempts"]):
                trace: str | None = call["trace"]
                return trace
        return None

    def _note_attempt(self, trace_id: int, span: ReadableSpan) -> None:
        attempts = self._attempts.get(trace_id)
        if attempts is None:
            attempts = self._attempts[trace_id] = []
            if len(self._attempts) > UNDER_WAY:
                self._attempts.popitem(last=False)
        if len(attempts) < ATTEMPTS:
            attempts.append(_attempt(span))

    def _note_call(self, span: ReadableSpan, took: int, trace: str, attempts: list[dict[str, str]]) -> None:
        code = status_name(span)
        second = (span.end_time or 0) // 1_000_000_000
        if second != self._second:
            self._second, self._in_second, self._slowest = second, 0, 0
        remarkable = code != "OK" or any(each["code"] != "OK" for each in attempts) or took > self._slowest
        self._in_second += 1
        if self._in_second > A_SECOND and not (remarkable and self._in_second < 5 * A_SECOND):
            return
        self._slowest = max(took, self._slowest)
        call = {
            "t": round((span.start_time or 0) / 1e9, 6),
            "seconds": took / 1e9,
            "code": code,
            "method": span.name,
            "trace": trace,
            "attempts": attempts,
        }
        self.kept.append(call)
        if self.told is not None:
            self.told(call)


def _attempt(span: ReadableSpan) -> dict[str, str]:
    attributes = span.attributes or {}
    host = str(attributes.get(SERVER_ADDRESS, ""))
    host = f"[{host}]" if ":" in host else host
    return {"instance": f"{host}:{attributes.get(SERVER_PORT, '')}", "method": span.name, "code": status_name(span)}
