from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider

from meshkit.tracing import B3Propagator, b3_sampler

TRACE_128 = "463ac35c9f6413ad48485a3953bb6124"
TRACE_64 = "48485a3953bb6124"
SPAN = "a2fb4a1d1a96d312"
PARENT = "0020000000000001"

tracer = TracerProvider(sampler=b3_sampler(), shutdown_on_exit=False).get_tracer("test")
propagator = B3Propagator()


def passed_on(headers: dict[str, str]) -> tuple[Any, dict[str, str]]:
    """A span made under what the headers say, and the headers that it sends on."""
    span = tracer.start_span("call", context=propagator.extract(headers, Context()))
    sent: dict[str, str] = {}
    propagator.inject(sent, trace.set_span_in_context(span))
    span.end()
    return span, sent


@pytest.mark.parametrize("trace_id", [TRACE_64, TRACE_128], ids=["64-bit", "128-bit"])
def test_a_trace_goes_on_under_its_id_in_its_width(trace_id: str) -> None:
    span, sent = passed_on({"x-b3-traceid": trace_id, "x-b3-spanid": SPAN, "x-b3-sampled": "1"})
    assert sent == {
        "x-b3-traceid": trace_id,
        "x-b3-spanid": f"{span.get_span_context().span_id:016x}",
        "x-b3-parentspanid": SPAN,
        "x-b3-sampled": "1",
    }


@pytest.mark.parametrize("no", ["0", "false"])
def test_sampled_0_is_obeyed_and_sent_on(no: str) -> None:
    span, sent = passed_on({"x-b3-traceid": TRACE_128, "x-b3-spanid": SPAN, "x-b3-sampled": no})
    assert not span.get_span_context().trace_flags.sampled
    assert sent["x-b3-traceid"] == TRACE_128
    assert sent["x-b3-sampled"] == "0"


def test_an_undecided_trace_is_sampled() -> None:
    span, sent = passed_on({"x-b3-traceid": TRACE_128, "x-b3-spanid": SPAN})
    assert span.get_span_context().trace_flags.sampled
    assert sent["x-b3-sampled"] == "1"


def test_a_lone_sampled_0_drops_the_trace_that_starts_here() -> None:
    span, sent = passed_on({"x-b3-sampled": "0"})
    assert not span.get_span_context().trace_flags.sampled
    assert sent["x-b3-sampled"] == "0"


def test_the_debug_flag_samples_and_is_sent_on() -> None:
    span, sent = passed_on({"x-b3-traceid": TRACE_128, "x-b3-spanid": SPAN, "x-b3-flags": "1", "x-b3-sampled": "0"})
    assert span.get_span_context().trace_flags.sampled
    assert (sent["x-b3-sampled"], sent["x-b3-flags"]) == ("1", "1")


def test_a_lone_debug_flag_is_for_the_trace_that_starts_here() -> None:
    _, sent = passed_on({"x-b3-flags": "1"})
    assert sent["x-b3-flags"] == "1"


@pytest.mark.parametrize(
    ("single", "sampled", "debug"),
    [
        (f"{TRACE_128}-{SPAN}", "1", False),
        (f"{TRACE_128}-{SPAN}-1", "1", False),
        (f"{TRACE_128}-{SPAN}-0", "0", False),
        (f"{TRACE_128}-{SPAN}-d", "1", True),
        (f"{TRACE_128}-{SPAN}-1-{PARENT}", "1", False),
        (f"{TRACE_64}-{SPAN}-1", "1", False),
    ],
)
def test_the_single_header_is_understood(single: str, sampled: str, debug: bool) -> None:
    _, sent = passed_on({"b3": single})
    assert sent["x-b3-traceid"] == single.split("-", maxsplit=1)[0]
    assert sent["x-b3-sampled"] == sampled
    assert ("x-b3-flags" in sent) == debug


def test_a_lone_0_in_the_single_header_drops_the_trace_that_starts_here() -> None:
    assert passed_on({"b3": "0"})[1]["x-b3-sampled"] == "0"


def test_the_single_header_wins_over_the_others() -> None:
    _, sent = passed_on({"b3": f"{TRACE_128}-{SPAN}-1", "x-b3-traceid": TRACE_64, "x-b3-spanid": SPAN})
    assert sent["x-b3-traceid"] == TRACE_128


@pytest.mark.parametrize(
    "headers",
    [
        {"x-b3-traceid": "xyz", "x-b3-spanid": SPAN},
        {"x-b3-traceid": "", "x-b3-spanid": ""},
        {"x-b3-traceid": "0" * 32, "x-b3-spanid": SPAN},
        {"x-b3-traceid": TRACE_128, "x-b3-spanid": "0" * 16},
        {"x-b3-traceid": TRACE_128 + "00", "x-b3-spanid": SPAN},
        {"x-b3-traceid": TRACE_128},
        {"x-b3-spanid": SPAN, "x-b3-sampled": "maybe"},
        {"b3": "-"},
        {"b3": f"{TRACE_128}-{SPAN}-9"},
        {"b3": f"{TRACE_128}-{SPAN}-1-{PARENT}-{PARENT}"},
        {"b3": "\u00e9" * 100},
    ],
)
def test_malformed_headers_start_a_new_trace(headers: dict[str, str]) -> None:
    span, sent = passed_on(headers)
    assert span.get_span_context().trace_flags.sampled
    assert sent["x-b3-traceid"] not in {TRACE_64, TRACE_128}
    assert len(sent["x-b3-traceid"]) == 32
    assert "x-b3-parentspanid" not in sent


def test_without_a_span_nothing_is_sent() -> None:
    sent: dict[str, str] = {}
    propagator.inject(sent, Context())
    assert sent == {}
