"""The client's spans do not say which instance was called."""

from typing import Any

from meshkit.client.spans import _ClientSpans

init = _ClientSpans.__init__


def init_without_server(self: _ClientSpans, *args: Any, **kwargs: Any) -> None:
    """Forget the instance."""
    init(self, *args, **kwargs)
    assert self._server
    self._server = {}


_ClientSpans.__init__ = init_without_server  # type: ignore[method-assign]
