"""The processor has a thread of its own: these tests wait for it, with a deadline, on what it reports."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracer
from structlog.testing import capture_logs

from meshkit.backoff import Backoff
from meshkit.tracing import ResendingSpanProcessor, span_processors_of, tracer_provider, zipkin_exporter
from meshkit.tracing.collector import Answer
from meshkit.tracing.collector import Collector as HttpCollector

NO_WAIT = Backoff(base=0.0, cap=0.0)


class Collector(SpanExporter):
    """Keeps what it takes; does what the test says before that."""

    def __init__(self, behaviour: Callable[[], SpanExportResult | None] = lambda: None) -> None:
        self.taken: list[str] = []
        self.batches: list[int] = []
        self.behaviour = behaviour

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self.behaviour() or SpanExportResult.SUCCESS
        if result is SpanExportResult.SUCCESS:
            self.taken += [span.name for span in spans]
            self.batches.append(len(spans))
        return result


def traced(processor: ResendingSpanProcessor, count: int) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    for number in range(count):
        provider.get_tracer("test").start_span(str(number)).end()


def refuse() -> SpanExportResult:
    return SpanExportResult.FAILURE


def broken() -> SpanExportResult:
    raise ConnectionError("connection refused")


def test_all_spans_arrive_in_order_in_batches() -> None:
    collector = Collector()
    processor = ResendingSpanProcessor(collector, batch_size=100)
    traced(processor, 250)
    assert processor.force_flush(5000)
    processor.shutdown()
    assert collector.taken == [str(number) for number in range(250)]
    assert max(collector.batches) <= 100
    assert (processor.counts.ended, processor.counts.sent, processor.counts.dropped) == (250, 250, 0)


def test_a_span_that_comes_alone_is_sent_at_once_and_what_follows_waits_for_company(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ResendingSpanProcessor, "PAUSE_A_SPAN", 3600.0)
    arrived = threading.Event()
    collector = Collector(arrived.set)
    processor = ResendingSpanProcessor(collector, interval=3600.0)
    traced(processor, 1)
    assert arrived.wait(5), f"not sent: {processor.counts}"
    traced(processor, 99)
    assert processor.force_flush(5000)
    assert collector.batches == [1, 99]
    processor.shutdown()


def test_a_batch_is_sent_again_until_the_collector_is_back() -> None:
    tries: list[int] = []

    def back_at_the_fifth_try() -> None:
        tries.append(1)
        if len(tries) < 5:
            broken()

    collector = Collector(back_at_the_fifth_try)
    processor = ResendingSpanProcessor(collector, backoff=NO_WAIT)
    traced(processor, 10)
    assert processor.force_flush(5000)
    assert len(collector.taken) == 10
    assert len(tries) - len(collector.batches) == 4
    processor.shutdown()
    assert processor.counts.dropped == 0


def test_what_the_collector_refuses_for_good_is_dropped_and_counted() -> None:
    processor = ResendingSpanProcessor(Collector(refuse))
    traced(processor, 10)
    assert processor.force_flush(5000)
    assert processor.counts.dropped == 10
    processor.shutdown()


def test_a_full_queue_drops_and_counts_so_that_memory_stays_bounded() -> None:
    stuck = threading.Event()

    def wait() -> None:
        stuck.wait(10)

    collector = Collector(wait)
    processor = ResendingSpanProcessor(collector, capacity=100, batch_size=10)
    traced(processor, 1000)
    counts = processor.counts
    assert (counts.ended, counts.queued, counts.dropped) == (1000, 100, 900)
    stuck.set()
    processor.shutdown()
    counts = processor.counts
    assert (counts.ended, counts.sent, counts.dropped, counts.queued) == (1000, 100, 900, 0)


def test_drops_are_logged_once_a_minute_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as logs:
        processor = ResendingSpanProcessor(Collector(refuse), batch_size=1)
        for _ in range(20):
            traced(processor, 1)
            assert processor.force_flush(5000)
        warnings = [entry for entry in logs if entry["event"] == "spans dropped"]
        assert len(warnings) <= 1
        processor.shutdown()
    warnings = [entry for entry in logs if entry["event"] == "spans dropped"]
    assert len(warnings) == 2
    assert sum(entry["dropped"] for entry in warnings) == 20
    assert warnings[-1]["dropped_in_all"] == 20


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(refuse, "refused"), (broken, "connection refused")],
)
def test_the_warning_says_why_the_spans_were_not_taken(behaviour: Callable[[], SpanExportResult], reason: str) -> None:
    with capture_logs() as logs:
        processor = ResendingSpanProcessor(Collector(behaviour), backoff=NO_WAIT, give_up=0.0)
        traced(processor, 1)
        assert processor.force_flush(5000)
        processor.shutdown()
    assert [entry["reason"] for entry in logs if entry["event"] == "spans dropped"] == [reason]


@pytest.mark.parametrize("status", [302, 404, 503])
def test_the_warning_says_what_zipkin_answered_so_that_a_wrong_url_is_seen(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:9411/api/v2/span"
    monkeypatch.setattr(HttpCollector, "post", lambda *_: Answer(status, "No"))
    exporter = zipkin_exporter("test", f"{url}?api_key=K3Y")
    with capture_logs() as logs:
        processor = ResendingSpanProcessor(exporter, backoff=NO_WAIT, give_up=0.0)
        traced(processor, 1)
        assert processor.force_flush(5000)
        processor.shutdown()
    assert [entry["reason"] for entry in logs if entry["event"] == "spans dropped"] == [f"{url} answered {status} No"]


def test_drops_of_a_full_queue_are_not_put_down_to_a_failure_that_has_passed() -> None:
    stuck, tries = threading.Event(), list[int]()

    def fails_once_then_hangs_at_the_third() -> None:
        tries.append(1)
        if len(tries) == 1:
            broken()
        if len(tries) == 3:
            stuck.wait(10)

    with capture_logs() as logs:
        processor = ResendingSpanProcessor(Collector(fails_once_then_hangs_at_the_third), capacity=1, backoff=NO_WAIT)
        traced(processor, 1)
        assert processor.force_flush(5000)
        traced(processor, 2)
        stuck.set()
        processor.shutdown()
    (warning,) = [entry for entry in logs if entry["event"] == "spans dropped"]
    assert (warning["dropped"], warning["reason"]) == (1, "the collector takes none, or too few")


@pytest.mark.parametrize("hang", [True, False], ids=["hangs", "refuses connections"])
def test_shutdown_keeps_to_its_deadline_whatever_the_collector_does(hang: bool) -> None:
    never = threading.Event()

    def behaviour() -> Any:
        if hang:
            never.wait(60)
        broken()

    processor = ResendingSpanProcessor(Collector(behaviour), batch_size=10, shutdown_timeout=0.3)
    traced(processor, 100)
    thread = threading.Thread(target=processor.shutdown)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    counts = processor.counts
    assert (counts.ended, counts.sent, counts.dropped, counts.queued) == (100, 0, 100, 0)
    never.set()


def test_unsampled_spans_are_not_queued_and_spans_after_the_end_are_dropped() -> None:
    processor = ResendingSpanProcessor(Collector())
    processor.shutdown()
    processor.shutdown()
    traced(processor, 3)
    assert processor.counts.dropped == 3


def test_a_collector_is_away_from_the_first_try_that_fails_until_it_takes_spans() -> None:
    away, tried = threading.Event(), threading.Event()
    away.set()

    def behaviour() -> None:
        if away.is_set():
            if since() is not None:
                tried.set()
            raise ConnectionError("connection refused")

    processor = ResendingSpanProcessor(Collector(behaviour), backoff=NO_WAIT)

    def since() -> float | None:
        return processor.away_since

    assert since() is None
    traced(processor, 1)
    assert tried.wait(5), f"never away: {processor.counts}"
    away.clear()
    assert processor.force_flush(5000)
    assert since() is None
    processor.shutdown()


def test_the_processors_of_a_tracer_are_found() -> None:
    provider = tracer_provider("test", exporter=Collector())
    (processor,) = span_processors_of(provider.get_tracer("test"))
    assert processor.counts.ended == 0
    provider.shutdown()
    assert span_processors_of(tracer_provider("test").get_tracer("test")) == ()
    assert span_processors_of(NoOpTracer()) == ()
