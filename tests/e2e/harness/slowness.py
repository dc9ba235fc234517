"""How slow this machine is at the moment, so that bounds in seconds hold on one that is busy, and mean something."""

import hashlib
import threading
import time

__all__ = ["Slowness"]

# What the piece of work below takes on an idle machine with two cores of 2024, in seconds.
IDLE = 0.020
PIECE = bytes(16 * 1024 * 1024)
EVERY = 1.0
MOST = 5.0


class Slowness:
    """Measures from its making on how much longer a piece of work takes than on an idle machine.

    The work is done outside of the interpreter's lock, so that the tests' own threads do not count.
    """

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="slowness", daemon=True)
        self._thread.start()

    def since(self, start: float) -> float:
        """The factor, from 1 to 5: what nine of ten samples since `start` (seconds since 1970) stayed below."""
        factors = sorted(factor for when, factor in [*self._samples] if when >= start)
        if not factors:
            return 1.0
        return min(MOST, max(1.0, factors[len(factors) * 9 // 10]))

    def close(self) -> None:
        """Stop measuring."""
        self._stop.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._stop.is_set():
            began = time.perf_counter()
            hashlib.sha1(PIECE, usedforsecurity=False)
            took = time.perf_counter() - began
            self._samples.append((time.time(), took / IDLE))
            self._stop.wait(EVERY)
