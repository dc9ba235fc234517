"""The client's spans do not say which instance was called."""

from typing import Any

from meshkit.tracing.client import TracingClientInterceptor

init = TracingClientInterceptor.__init__


def init_without_server(self: TracingClientInterceptor, *args: Any, **kwargs: Any) -> None:
    """Forget the instance."""
    init(self, *args, **kwargs)
    assert self._server
    self._server = {}


TracingClientInterceptor.__init__ = init_without_server  # type: ignore[method-assign]
