"""The client keeps its trace to itself: no B3 header is sent, so that servers begin traces of their own."""

from typing import Any

from meshkit.tracing.b3 import B3Propagator


def inject(self: B3Propagator, *args: Any, **kwargs: Any) -> None:
    """Leave the carrier as it is."""


assert callable(B3Propagator.inject)
B3Propagator.inject = inject  # type: ignore[method-assign]
