"""Which headers carry a trace from one program to the next: B3 (the default), W3C, or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Tracer

from meshkit.tracing.b3 import headers_of, read_b3, single_header_of
from meshkit.tracing.w3c import BAGGAGE, TRACEPARENT, baggage_headers, read_baggage, read_traceparent
from meshkit.tracing.w3c import traceparent_headers as w3c_headers_of

__all__ = ["DEFAULT_PROPAGATION", "PROPAGATORS", "Headers", "Propagation", "propagation_of"]

Headers = tuple[tuple[str, str], ...]

_WRITERS: dict[str, Callable[[Span], Headers]] = {
    "b3multi": headers_of,
    "b3": single_header_of,
    "tracecontext": w3c_headers_of,
    "baggage": lambda _: baggage_headers(),
}
# OpenTelemetry's names, as in its OTEL_PROPAGATORS.
PROPAGATORS = (*_WRITERS, "none")


class Propagation:
    """Writes the headers that were chosen, and reads all that it knows.

    Of a caller's headers the first that name a span count, in this order: `b3`, `x-b3-...`, `traceparent`; but
    `traceparent` first where `tracecontext` was named before any form of B3. `baggage` is always read, and passed on
    where it was named.

    Args:
        names: of PROPAGATORS; `none` writes nothing, and stands alone. Default: `b3multi`. Each of them costs a call
            time on either side: a header about 10 us.

    Raises:
        ValueError: a name that is not known, or `none` beside others.
    """

    def __init__(self, names: Sequence[str] = ("b3multi",)) -> None:
        names = tuple(dict.fromkeys(names))
        if not names or not set(names) <= set(PROPAGATORS) or ("none" in names and len(names) > 1):
            raise ValueError(f"expected none, or some of {', '.join(_WRITERS)}; got {','.join(names)}")
        self.names = names
        writers = [_WRITERS[name] for name in names if name != "none"]
        # What a span sends to the callee. One writer is called as it is: this is done for each call.
        self.headers_of: Callable[[Span], Headers] = writers[0] if len(writers) == 1 else _all_of(writers)
        spans = [name for name in names if name in {"b3multi", "b3", "tracecontext"}]
        self._w3c_first = spans[:1] == ["tracecontext"]

    def extracted(self, metadata: Any) -> Context:
        """The context that a gRPC call's metadata brings; of each name the first header counts."""
        headers: dict[str, Any] = dict(reversed(tuple(metadata or ())))

        def header(name: str) -> str | None:
            value = headers.get(name)
            return value.strip() if isinstance(value, str) else None

        # Looked for by name first, as most calls have none of them.
        w3c = TRACEPARENT in headers
        context = Context()
        if w3c and self._w3c_first:
            context = read_traceparent(header, context)
            w3c = False
        if not context:
            context = read_b3(header, context)
        if w3c and not trace.get_current_span(context).get_span_context().is_valid:
            context = read_traceparent(header, context)
        return read_baggage(header, context) if BAGGAGE in headers else context


def _all_of(writers: Sequence[Callable[[Span], Headers]]) -> Callable[[Span], Headers]:
    def headers(span: Span) -> Headers:
        return tuple(header for write in writers for header in write(span))

    return headers


DEFAULT_PROPAGATION = Propagation()


def propagation_of(tracer: Tracer) -> Propagation:
    """What the spans of a tracer are propagated by: of a tracer of others, the default."""
    found = getattr(tracer, "propagation", None)
    return found if isinstance(found, Propagation) else DEFAULT_PROPAGATION
