"""Spans and a tracer that cost a third of the SDK's, for what an RPC needs.

Why not the SDK's own: each of its spans has a lock, four bounded containers and a copy of itself for the processors,
and asks a chain of samplers; made once a call on each side that was the mesh's largest cost (docs/performance.md).
These keep its interfaces (TracerProvider, SpanProcessor, ReadableSpan), so that its processors and exporters work on.
What they leave out: limits on the number of attributes, events and links; SDK metrics; and a lock: a span is to be
changed by one thread.
"""

# ruff: noqa: D102 - documented where the interface is

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import getrandbits
from types import TracebackType
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    Event,
    ReadableSpan,
    SpanProcessor,
    TracerProvider,
)
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes

from meshkit.tracing.attributes import OLD, Conventions
from meshkit.tracing.propagation import DEFAULT_PROPAGATION, Propagation

__all__ = ["LightSpan", "LightTracer", "LightTracerProvider"]

_UNSET = Status(StatusCode.UNSET)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
_DROPPED = TraceFlags(TraceFlags.RANDOM_TRACE_ID)


class LightSpan(ReadableSpan, Span):
    """A span that its processors read without a copy: it does not change after its end.

    It begins by the wall clock and goes on by the monotonic one: the wall clock may be set meanwhile.
    """

    def __init__(  # noqa: PLR0917 - keywords cost time
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: dict[str, Any],
        start_time: int | None,
        tracer: LightTracer,
    ) -> None:
        wall, ticks = time.time_ns(), time.perf_counter_ns()
        # What the wall clock is ahead of the monotonic one.
        self._ahead = wall - ticks
        super().__init__(
            name,
            context,
            parent,
            tracer.provider.resource,
            attributes,
            kind=kind,
            status=_UNSET,
            start_time=wall if start_time is None else start_time,
            instrumentation_scope=tracer.scope,
        )
        self._processors = tracer.provider.processors
        self.conventions = tracer.conventions

    def get_span_context(self) -> SpanContext:
        """The ids; this and the methods below are those of opentelemetry.trace.Span."""
        return cast("SpanContext", self._context)

    def is_recording(self) -> bool:
        return self._end_time is None

    def set_attribute(self, key: str, value: Any) -> None:
        if self._end_time is None:
            cast("dict[str, Any]", self._attributes)[key] = value

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        if self._end_time is None:
            cast("dict[str, Any]", self._attributes).update(attributes)

    def update_name(self, name: str) -> None:
        if self._end_time is None:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        if isinstance(status, StatusCode):
            status = Status(status, description)
        # As the API has it: OK is final, UNSET is no news.
        final = self._status.status_code is StatusCode.OK
        if self._end_time is None and not final and status.status_code is not StatusCode.UNSET:
            self._status = status

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        if self._end_time is None:
            self._events = (*self._events, Event(name, attributes, self._now() if timestamp is None else timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        if self._end_time is None:
            self._links = (*self._links, Link(context, attributes))

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        facts: dict[str, Any] = {
            "exception.type": type(exception).__qualname__,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**facts, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        if self._end_time is None:
            self._end_time = self._now() if end_time is None else end_time
            for processor in self._processors:
                processor.on_end(self)

    def _now(self) -> int:
        return time.perf_counter_ns() + self._ahead

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """End the span; an error that leaves the body is its status and an event."""
        if error is not None and self.is_recording():
            self.record_exception(error, escaped=True)
            self.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        super().__exit__(kind, error, tb)


class LightTracer(trace.Tracer):
    """Makes LightSpans. A trace that was begun elsewhere is sampled as it was there, unless the sampler decides anew.

    Without a processor it begins no trace, as the callees would record parts of one that has no root: the current
    context is passed on as it is, where there is one.
    """

    def __init__(self, provider: LightTracerProvider, scope: InstrumentationScope) -> None:
        self.provider = provider
        self.scope = scope
        self.propagation = provider.propagation
        self.conventions = provider.conventions

    def start_span(  # noqa: PLR0917 - the interface's
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,  # noqa: ARG002 - of start_as_current_span
        set_status_on_exception: bool = True,  # noqa: ARG002
    ) -> Span:
        """Make a span; not recording where its trace is not sampled (opentelemetry.trace.Tracer)."""
        current = trace.get_current_span(context)
        if not self.provider.processors:
            return current if not current.is_recording() else NonRecordingSpan(current.get_span_context())
        parent: SpanContext | None = current.get_span_context()
        if parent is not None and parent.is_valid:
            trace_id, flags, state = parent.trace_id, parent.trace_flags, parent.trace_state
            if not self.provider.parent_based:
                decided = self.provider.sampler.should_sample(context, trace_id, name, kind, attributes, links or ())
                sampled = decided.decision is Decision.RECORD_AND_SAMPLE
                flags = TraceFlags((flags & ~TraceFlags.SAMPLED) | (TraceFlags.SAMPLED if sampled else 0))
        else:
            parent, trace_id = None, getrandbits(128) or 1
            decided = self.provider.sampler.should_sample(context, trace_id, name, kind, attributes, links or ())
            flags = _SAMPLED if decided.decision is Decision.RECORD_AND_SAMPLE else _DROPPED
            state = decided.trace_state or None  # type: ignore[assignment]
        own = SpanContext(trace_id, getrandbits(64) or 1, is_remote=False, trace_flags=flags, trace_state=state)
        if not flags & TraceFlags.SAMPLED:
            return NonRecordingSpan(own)
        tags: dict[str, Any] = dict(attributes) if attributes else {}
        span = LightSpan(name, own, parent, kind, tags, start_time, self)
        for link in links or ():
            span.add_link(link.context, link.attributes)
        for processor in self.provider.processors:
            processor.on_start(cast("Any", span), context)
        return span

    @contextmanager
    def start_as_current_span(  # type: ignore[override] # noqa: PLR0917 - the interface's
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Iterator[Span]:
        """Make a span and have it be the current one while the body runs (opentelemetry.trace.Tracer)."""
        span = self.start_span(name, context, kind, attributes, links, start_time)
        with trace.use_span(span, end_on_exit, record_exception, set_status_on_exception):
            yield span


class LightTracerProvider(TracerProvider):
    """The SDK's provider, whose tracers make LightSpans.

    Args:
        sampler: decides on traces that begin here.
        resource: what the spans tell of the program.
        parent_based: False: the sampler decides on each span, whatever the caller has decided. Default True.
        propagation: the headers that carry the spans' contexts. Default: B3's.
        conventions: the names of the spans' attributes. Default: the old ones.
    """

    def __init__(
        self,
        sampler: Sampler,
        resource: Resource,
        *,
        parent_based: bool = True,
        propagation: Propagation = DEFAULT_PROPAGATION,
        conventions: Conventions = OLD,
    ) -> None:
        super().__init__(sampler, resource, shutdown_on_exit=False)
        self.parent_based = parent_based
        self.propagation = propagation
        self.conventions = conventions
        self.processors: tuple[SpanProcessor, ...] = ()

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        """Add a processor, which sees spans begin and end (opentelemetry.sdk.trace.TracerProvider)."""
        super().add_span_processor(span_processor)
        self.processors += (span_processor,)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """Make a tracer (opentelemetry.trace.TracerProvider)."""
        scope = InstrumentationScope(
            instrumenting_module_name, instrumenting_library_version or "", schema_url or "", attributes
        )
        return LightTracer(self, scope)
