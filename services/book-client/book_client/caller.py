"""Calls one after the other: each with a span, a log line and a place in the tally."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import grpc
import structlog
from opentelemetry.trace import Tracer

from book_client.conversation import Conversation
from book_client.tally import Tally
from meshkit import Endpoint, MeshError, RetryError, root_span, trace_id_of
from meshkit.errors import shortened, status_of

__all__ = ["Caller"]

log = structlog.stdlib.get_logger("book-client")

# A refused call takes no time: without a pause, a client that calls for ever would spin while the breaker is open, or
# while servers have no token for it.
PAUSE_AFTER_REFUSAL = 0.1


class _FailedCallError(MeshError):
    """A call that failed, for its span: the status and the text of an error of any class."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.code = status_of(error)


class Caller:
    """Makes calls one after the other, each with a root span, a log line and a place in the tally.

    Args:
        books: the call, which takes its number.
        stop: no call begins once it is set. It is also set here when the last call begins.
        calls: how many, of all workers together; 0: until `stop` is set.
        interval: seconds between a worker's calls.
    """

    def __init__(
        self,
        books: Endpoint[int, Conversation],
        tracer: Tracer,
        tally: Tally,
        stop: asyncio.Event,
        *,
        calls: int = 0,
        interval: float = 0,
    ) -> None:
        self._books = books
        self._tracer = tracer
        self._tally = tally
        self._stop = stop
        self._calls = calls
        self._interval = interval
        self._begun = 0

    async def work(self) -> None:
        """Make calls until all have begun or `stop` is set."""
        while not self._stop.is_set():
            self._begun += 1
            if self._begun == self._calls:
                # Nothing is left to pause for, here or in another worker.
                self._stop.set()
            pause = self._interval
            if not await self._call(self._begun):
                pause = max(pause, PAUSE_AFTER_REFUSAL)
            if pause:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stop.wait()

    async def _call(self, number: int) -> bool:
        """Make one call; False: it was refused, on either side."""
        start = time.perf_counter()
        failure: BaseException | None = None
        with contextlib.suppress(_FailedCallError), root_span(self._tracer, "bookCaller") as span:
            try:
                answer = await self._books(number)
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as error:
                # This worker goes on after any error, unless it is cancelled itself.
                if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
                    raise
                failure = error
                raise _FailedCallError(error) from error
        duration = time.perf_counter() - start
        facts: dict[str, Any] = {"trace_id": trace_id_of(span) or "none", "duration_ms": round(duration * 1000, 3)}
        if root := span.get_span_context().span_id:
            facts["span_id"] = f"{root:016x}"
        if failure is None:
            books = ", ".join(f"{book.book_id} {book.book_name}" for book in answer.books)
            book = f"{answer.book.book_id} {answer.book.book_name}"
            instance, attempts = answer.instance, answer.attempt
            log.info(
                "call", call=number, outcome="ok", instance=instance, attempts=attempts, **facts, book=book, books=books
            )
        else:
            tried = failure.attempts if isinstance(failure, RetryError) else ()
            instance, attempts = tried[-1].instance if tried else "none", len(tried)
            code = status_of(failure)
            reason = str(failure) if isinstance(failure, MeshError) else shortened(repr(failure))
            log.error(
                "call", call=number, outcome=code.name, instance=instance, attempts=attempts, **facts, error=reason
            )
        self._tally.add(instance, duration, failed=failure is not None)
        return failure is None or (instance != "none" and code is not grpc.StatusCode.RESOURCE_EXHAUSTED)
