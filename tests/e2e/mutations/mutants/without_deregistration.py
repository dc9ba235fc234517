"""A server that leaves says nothing: its key stays in etcd until its lease has ended by itself."""

import asyncio
import contextlib

from meshkit.discovery.registrar import Registrar


async def deregister(self: Registrar) -> bool:
    """Stop keeping the key, and leave it where it is."""
    task, self._task = self._task, None
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return True


assert callable(Registrar.deregister)
Registrar.deregister = deregister  # type: ignore[method-assign]
