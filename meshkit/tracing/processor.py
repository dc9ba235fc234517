"""Takes ended spans off the event loop and sends them in batches, also while the collector is slow or away.

Why not the SDK's BatchSpanProcessor: it tries each batch once, so a restart of Zipkin loses spans; it drops without
counting; and its shutdown can take half a minute.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer

from meshkit.backoff import Backoff
from meshkit.clock import unix_time
from meshkit.errors import SpansRefusedError

__all__ = ["PreparingExporter", "ResendingSpanProcessor", "SpanCounts", "span_processors_of"]

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SpanCounts:
    """What became of the spans so far; `ended` is the sum of the others."""

    ended: int
    sent: int
    dropped: int
    queued: int


class PreparingExporter(SpanExporter):
    """An exporter that encodes spans soon after they have ended, a few at a time.

    Encoding whole batches in the sending thread would keep the interpreter's lock from the event loop for as long:
    some calls would then wait for hundreds of spans. A span in a queue takes a tenth of the memory as bytes.
    """

    @abstractmethod
    def prepare(self, span: ReadableSpan) -> bytes:
        """Encode a span. Called where spans end; must not block."""

    @abstractmethod
    def send(self, prepared: Sequence[bytes]) -> SpanExportResult:
        """Send what `prepare` has made; called in the processor's thread, as `export` is."""


class ResendingSpanProcessor(SpanProcessor):
    """A bounded queue in front of an exporter, emptied by a daemon thread.

    A batch whose export raises (connection refused or broken, collector overloaded) is sent again, with full-jitter
    backoff; one whose export raises SpansRefusedError or returns FAILURE is refused for good and dropped. Spans that
    find the queue full are dropped. Drops are counted, and logged at most once a minute, with the last reason that the
    exporter gave.

    A span that ends while nothing else does is sent at once, so that a killed process loses few; each
    span sent is followed by a pause of 25 ms, `interval` at most, so that the more there are, the larger the batches.

    Args:
        exporter: sends a batch; is shut down together with this.
        capacity: spans that may wait; more are dropped. About 0.4 KB each where the exporter is a PreparingExporter,
            else 3 KB. Default 32,768.
        batch_size: spans a request. Default 512.
        interval: seconds that a span waits at most before it is first sent. Default 0.5.
        give_up: seconds after which a batch that cannot be sent is dropped. Default 120.
        shutdown_timeout: seconds that `shutdown` may take to send what is left. Default 4.
        backoff: between tries of one batch. Default: 100 ms, doubling, at most 1 s.
    """

    LOG_INTERVAL = 60.0
    # Spans that are encoded in one go, where they end. One by one costs twice as much: by the next span, the encoder
    # has left the processor's caches. These take the event loop a fraction of a millisecond.
    PIECE = 16
    # Seconds. A request takes this process half a millisecond of CPU: 2% of that, at worst.
    PAUSE_A_SPAN = 0.025
    # While shutting down, the number of further tries when the collector is away.
    LAST_TRIES = 3

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        capacity: int = 32768,
        batch_size: int = 512,
        interval: float = 0.5,
        give_up: float = 120.0,
        shutdown_timeout: float = 4.0,
        backoff: Backoff | None = None,
    ) -> None:
        self._exporter = exporter
        self._prepare: Callable[[ReadableSpan], Any] | None = None
        self._export: Callable[[list[Any]], SpanExportResult] = exporter.export
        if isinstance(exporter, PreparingExporter):
            self._prepare, self._export = exporter.prepare, exporter.send
        self._capacity = capacity
        self._batch_size = batch_size
        self._interval = interval
        self._give_up = give_up
        self._shutdown_timeout = shutdown_timeout
        self._backoff = backoff or Backoff(base=0.1, cap=1.0)
        self._changed = threading.Condition()
        self._fresh: list[ReadableSpan] = []
        self._waiting: deque[Any] = deque()
        self._ended = self._sent = self._dropped = 0
        self._in_hand = 0
        self._flush = False
        self._stop_at: float | None = None
        self._logged_at = -self.LOG_INTERVAL
        self._dropped_logged = 0
        self._reason: str | None = None
        # Unix seconds, since the collector takes nothing because it is away or overloaded; None: it took the last.
        self.away_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="span exporter", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> SpanCounts:
        """A consistent snapshot."""
        with self._changed:
            return SpanCounts(self._ended, self._sent, self._dropped, self._queued)

    @property
    def _queued(self) -> int:
        return len(self._fresh) + len(self._waiting) + self._in_hand

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span, or drop it where the queue is full. Never blocks."""
        if span.context is None or not span.context.trace_flags.sampled:
            return
        with self._changed:
            self._ended += 1
            queued = self._queued
            if queued >= self._capacity or self._stop_at is not None:
                self._dropped += 1
                return
            self._fresh.append(span)
            if len(self._fresh) >= self.PIECE:
                self._prepare_fresh()
                if len(self._waiting) >= self._batch_size and not self._in_hand:
                    self._changed.notify_all()
            elif not queued:
                self._changed.notify_all()

    def _prepare_fresh(self) -> None:
        for span in self._fresh:
            try:
                self._waiting.append(self._prepare(span) if self._prepare else span)
            except Exception as error:  # noqa: BLE001 - a span that cannot be encoded is no reason to fail its call
                log.debug("span not encoded", reason=repr(error))
                self._reason = f"a span was not encoded: {error!r}"
                self._dropped += 1
        self._fresh.clear()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Send what is queued; whether nothing was left in time."""
        with self._changed:
            self._flush = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._queued, timeout_millis / 1000)

    def shutdown(self) -> None:
        """Send what is left, for `shutdown_timeout` at most; the rest is dropped, and counted. Idempotent."""
        with self._changed:
            if self._stop_at is not None:
                return
            self._stop_at = time.monotonic() + self._shutdown_timeout
            self._changed.notify_all()
        self._thread.join(self._shutdown_timeout)
        with self._changed:
            self._dropped += self._queued
            self._fresh.clear()
            self._waiting.clear()
            self._in_hand = 0
        self._log_drops(now=True)
        log.info("spans", ended=self._ended, sent=self._sent, dropped=self._dropped)
        if not self._thread.is_alive():
            self._exporter.shutdown()

    def _run(self) -> None:
        pause = 0.0
        while batch := self._next_batch(pause):
            sent = self._send(batch)
            pause = min(self._interval, len(batch) * self.PAUSE_A_SPAN)
            with self._changed:
                # A shutdown that could not wait has already counted them as dropped.
                if self._in_hand:
                    self._in_hand = 0
                    if sent:
                        self._sent += len(batch)
                        if self._dropped == self._dropped_logged:
                            # It explains no drop that is still to be logged, nor any to come.
                            self._reason = None
                    else:
                        self._dropped += len(batch)
                self._changed.notify_all()
            self._log_drops()

    def _next_batch(self, pause: float) -> list[Any]:
        """The next spans to send: after the pause those that there are, or a full batch before; empty: stop."""
        while True:
            with self._changed:
                self._changed.wait_for(self._urgent, pause)
                self._changed.wait_for(lambda: self._queued or self._urgent(), self.LOG_INTERVAL)
                if len(self._waiting) < self._batch_size:
                    self._prepare_fresh()
                batch = [self._waiting.popleft() for _ in range(min(self._batch_size, len(self._waiting)))]
                self._in_hand = len(batch)
                if batch or self._stop_at is not None:
                    return batch
                self._flush = False
                self._changed.notify_all()
            self._log_drops()

    def _urgent(self) -> bool:
        return len(self._waiting) >= self._batch_size or self._flush or self._stop_at is not None

    def _send(self, batch: list[Any]) -> bool:
        started = time.monotonic()
        tries = 0
        last_tries = self.LAST_TRIES
        while True:
            tries += 1
            try:
                if self._export(batch) is not SpanExportResult.SUCCESS:
                    raise SpansRefusedError("refused")  # noqa: TRY301 - as if the exporter had said so
            except SpansRefusedError as error:
                self.away_since = None
                self._reason = str(error)
                return False
            except Exception as error:  # noqa: BLE001 - whatever an exporter raises, the program goes on
                self.away_since = self.away_since or unix_time()
                self._reason = str(error) or type(error).__name__
                if tries == 1:
                    log.debug("spans not sent, trying again", reason=str(error))
                if self._stop_at is not None:
                    last_tries -= 1
                if not last_tries or not self._pause(self._backoff.delay(tries), started):
                    log.debug("spans given up", reason=str(error), spans=len(batch), tries=tries)
                    return False
                self._log_drops()
            else:
                self.away_since = None
                return True

    def _pause(self, delay: float, started: float) -> bool:
        """Wait before the next try; whether there is time for one."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop_at is not None, delay)
            now = time.monotonic()
            if self._stop_at is None:
                return now - started < self._give_up
            # While stopping, tries follow each other quickly: there are only seconds left.
            left = self._stop_at - now
        if left <= 0:
            return False
        time.sleep(min(0.2, left))
        return True

    def _log_drops(self, *, now: bool = False) -> None:
        with self._changed:
            new = self._dropped - self._dropped_logged
            if not new or (not now and time.monotonic() < self._logged_at + self.LOG_INTERVAL):
                return
            self._dropped_logged = self._dropped
            self._logged_at = time.monotonic()
            total = self._dropped
            reason = self._reason or "the collector takes none, or too few"
        log.warning("spans dropped", dropped=new, dropped_in_all=total, reason=reason)


def span_processors_of(tracer: Tracer) -> tuple[ResendingSpanProcessor, ...]:
    """Those that send a tracer's spans, for their counts; none of a tracer that records nothing, or of others."""
    processors = getattr(getattr(tracer, "provider", None), "processors", ())
    return tuple(each for each in processors if isinstance(each, ResendingSpanProcessor))
