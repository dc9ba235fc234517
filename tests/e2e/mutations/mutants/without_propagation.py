"""The client keeps its trace to itself: no B3 header is sent, so that servers begin traces of their own."""

from opentelemetry.trace import Span

from meshkit.client import spans


def no_headers(_: Span) -> tuple[tuple[str, str], ...]:
    """Tell nothing of the span."""
    return ()


assert callable(vars(spans)["headers_of"])
spans.headers_of = no_headers  # type: ignore[attr-defined, assignment]
