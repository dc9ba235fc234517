"""A server that leaves does not wait for clients to hear of it: it stops as soon as its key is gone."""

import inspect
from contextlib import AbstractAsyncContextManager
from typing import Any

import meshkit

serving = meshkit.serving


def at_once(*args: Any, **kwargs: Any) -> AbstractAsyncContextManager[int]:
    """Serve as always, but for the drain."""
    return serving(*args, **{**kwargs, "drain": 0.0})


assert "drain" in inspect.signature(serving).parameters
meshkit.serving = at_once  # type: ignore[assignment]
