import random

import prometheus_client
import pytest
from opentelemetry.trace import NoOpTracer

from meshkit.metrics import BOUNDS, Histogram, quantile
from meshkit.metrics.histogram import PUBLISHED
from meshkit.testing import MemorySpans
from meshkit.tracing import trace_id_of


def test_the_published_bounds_are_those_of_prometheus_client_and_among_the_fine_ones() -> None:
    theirs = prometheus_client.Histogram.DEFAULT_BUCKETS
    assert (*PUBLISHED, float("inf")) == theirs
    assert set(PUBLISHED) <= set(BOUNDS)
    assert list(BOUNDS) == sorted(set(BOUNDS))


def test_its_buckets_are_exactly_those_that_prometheus_client_counts() -> None:
    theirs = prometheus_client.Histogram("seconds", "", registry=None)
    ours = Histogram()
    rng = random.Random(1)
    seconds = [*BOUNDS, 0.0, 61.0, *(rng.lognormvariate(-4, 2) for _ in range(5000))]
    for each in seconds:
        theirs.observe(each)
        ours.observe(each, now=0.0)
    (family,) = theirs.collect()
    counted = [sample.value for sample in family.samples if sample.name == "seconds_bucket"]
    assert [count for _, count in ours.buckets()] == counted
    assert ours.count == len(seconds)
    assert ours.sum == pytest.approx(sum(seconds))


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_percentile_is_told_within_a_third(share: float) -> None:
    rng = random.Random(2)
    seconds = sorted(rng.lognormvariate(-5, 1) for _ in range(10_000))
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each, now=0.0)
    assert quantile(histogram.counts, share) == pytest.approx(seconds[int(share * len(seconds))], rel=0.34)


def test_a_percentile_of_no_call_is_none_and_of_one_above_all_bounds_the_last_bound() -> None:
    histogram = Histogram()
    assert quantile(histogram.counts, 0.5) is None
    histogram.observe(1000.0, now=0.0)
    assert quantile(histogram.counts, 0.5) == BOUNDS[-1]


def test_an_exemplar_is_taken_at_most_once_a_second_and_of_a_recorded_trace_only() -> None:
    histogram, spans = Histogram(), MemorySpans()
    first, second, third = (spans.tracer.start_span("call") for _ in range(3))
    histogram.observe(0.001, now=10.0, span=NoOpTracer().start_span("call"))
    taken = [histogram.exemplar]
    for now, span in ((11.0, first), (11.9, second), (12.0, third)):
        histogram.observe(now, now=now, span=span)
        taken.append(histogram.exemplar)
    found = [exemplar and exemplar[:2] for exemplar in taken]
    of_first, of_third = (trace_id_of(first), 11.0), (trace_id_of(third), 12.0)
    assert found == [None, of_first, of_first, of_third]
