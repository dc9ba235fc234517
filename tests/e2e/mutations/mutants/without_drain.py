"""A server that leaves does not wait for clients to hear of it: it stops as soon as its key is gone."""

import inspect
from contextlib import AbstractAsyncContextManager
from typing import Any

import meshkit

serve = meshkit.serve


def at_once(*args: Any, **kwargs: Any) -> AbstractAsyncContextManager[int]:
    """Serve as always, but for the drain."""
    return serve(*args, **{**kwargs, "drain": 0.0})


assert "drain" in inspect.signature(serve).parameters
meshkit.serve = at_once  # type: ignore[assignment]
