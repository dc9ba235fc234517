"""The oracle finds every way in which a trace can be broken."""

from typing import Any

import pytest

from localmesh.calls import Call
from localmesh.oracle import Excuse, judge, problems

TRACE = "0af7651916cd43dd8448eb211c80319c"
ONE, TWO = "10.0.0.1:50051", "10.0.0.2:50051"
INFO, LIST = "bookservice/getbookinfo", "bookservice/getbooklist"
Spans = list[dict[str, Any]]


def call(**changes: Any) -> Call:
    facts: dict[str, Any] = {
        "number": 7,
        "client": "client-a",
        "host": "10.0.0.9",
        "outcome": "ok",
        "instance": ONE,
        "attempts": 1,
        "trace_id": TRACE,
        "start": 100.0,
        "duration": 0.02,
    }
    return Call(**(facts | changes))


def endpoint(address: str, service: str | None = None) -> dict[str, Any]:
    host, _, port = address.rpartition(":")
    return {"ipv4": host, "port": int(port)} | ({"serviceName": service} if service else {})


def root() -> dict[str, Any]:
    return {
        "traceId": TRACE,
        "id": "00000000000000aa",
        "name": "bookcaller",
        "timestamp": 100_000_000,
        "duration": 20_000,
        "localEndpoint": {"serviceName": "book-client", "ipv4": "10.0.0.9"},
    }


def pair(name: str, address: str = ONE, *, attempt: int = 1, error: str | None = None, served: bool = True) -> Spans:
    code = f"{attempt}{1 if name == INFO else 2}"
    tags = {"attempt": str(attempt)} | ({"error": error} if error else {})
    shared = {"traceId": TRACE, "name": name, "timestamp": 100_000_000 + int(code) * 1000, "duration": 1000}
    client = {
        **shared,
        "id": f"00000000000000{code}",
        "parentId": "00000000000000aa",
        "kind": "CLIENT",
        "tags": tags,
        "localEndpoint": {"serviceName": "book-client", "ipv4": "10.0.0.9"},
        "remoteEndpoint": endpoint(address),
    }
    server = {
        **shared,
        "id": f"000000000000b0{code}",
        "parentId": client["id"],
        "kind": "SERVER",
        "localEndpoint": endpoint(address, "book-server"),
    }
    return [client, server] if served else [client]


def whole() -> Spans:
    return [root(), *pair(INFO), *pair(LIST)]


def test_five_spans_of_one_tree_are_whole() -> None:
    assert problems(call(), whole()) == []


@pytest.mark.parametrize(
    "failed",
    [
        pair(INFO, TWO, error="UNAVAILABLE", served=False),
        pair(INFO, TWO, error="UNAVAILABLE"),
        [*pair(INFO, TWO), *pair(LIST, TWO, error="UNAVAILABLE", served=False)],
    ],
    ids=["never arrived", "arrived", "failed at its second call"],
)
def test_a_retried_call_is_whole_with_its_failed_attempt(failed: Spans) -> None:
    spans = [root(), *failed, *pair(INFO, attempt=2), *pair(LIST, attempt=2)]
    assert problems(call(attempts=2), spans) == []
    assert "2 attempts in the log" in problems(call(attempts=2), [s for s in spans if s not in failed])[0]
    assert problems(call(attempts=1), spans), "more attempts in the trace than in the log"


def test_a_refused_call_is_whole_with_a_root_that_says_so() -> None:
    refused = call(outcome="UNAVAILABLE", instance="none", attempts=0)
    assert problems(refused, [root() | {"tags": {"error": "the circuit is open"}}]) == []
    assert problems(refused, [root()]) == ["the call failed, its root does not say so"]


def without(spans: Spans, name: str, kind: str) -> Spans:
    return [span for span in spans if (span["name"], span.get("kind")) != (name, kind)]


def changed(which: str, kind: str | None, **changes: Any) -> Spans:
    return [span | changes if (span["name"], span.get("kind")) == (which, kind) else span for span in whole()]


@pytest.mark.parametrize(
    ("spans", "reason"),
    [
        ([], "no span in Zipkin"),
        (without(whole(), INFO, "SERVER"), "getbookinfo CLIENT has 0 SERVER spans"),
        (without(whole(), LIST, "CLIENT"), "orphans: bookservice/getbooklist SERVER"),
        ([*pair(INFO), *pair(LIST)], "0 roots"),
        ([*whole(), root() | {"id": "00000000000000ab"}], "2 roots"),
        ([*whole(), whole()[1] | {"id": "00000000000000ff"}], "has 0 SERVER spans"),
        ([*whole(), whole()[2] | {"id": "00000000000000ff"}], "has 2 SERVER spans"),
        ([*whole(), whole()[2]], "not unique"),
        (changed(INFO, "SERVER", id="ff"), "not 16 hex digits"),
        (changed(INFO, "SERVER", parentId="00000000000000aa"), "has 0 SERVER spans"),
        (changed(INFO, "CLIENT", parentId="000000000000b012"), "is not a child of the root"),
        (changed(INFO, "CLIENT", remoteEndpoint=None), "its spans' remote endpoint is 10.0.0.1:50051, nowhere"),
        (changed(INFO, "CLIENT", remoteEndpoint=endpoint(TWO)), "10.0.0.1:50051 served it"),
        (changed(LIST, "SERVER", localEndpoint=endpoint(TWO, "book-server")), "10.0.0.2:50051 served it"),
        (changed(LIST, "SERVER", localEndpoint=endpoint(ONE, "book-client")), "paired with book-client"),
        (changed(LIST, "CLIENT", tags={"attempt": "1", "error": "CANCELLED"}), "although the call succeeded"),
        (changed("bookcaller", None, tags={"error": "no"}), "the call succeeded, its root says 'no'"),
        (changed("bookcaller", None, name="other"), "instead of bookcaller"),
        (changed("bookcaller", None, localEndpoint={"serviceName": "book-client"}), "book-client at ? instead of"),
        (changed(INFO, "CLIENT", localEndpoint=endpoint(ONE, "book-client")), "book-client at 10.0.0.1"),
        (changed(LIST, "CLIENT", localEndpoint=endpoint("10.0.0.9:1", "other")), "other at 10.0.0.9 instead of"),
        (changed(INFO, "SERVER", debug=True), "marked debug"),
        (changed(INFO, "SERVER", traceId="f" * 32), "spans of other traces"),
    ],
)
def test_a_broken_trace_is_found_and_explained(spans: Spans, reason: str) -> None:
    assert reason in "; ".join(problems(call(), spans))


def test_the_instance_in_the_log_must_be_the_one_that_served() -> None:
    assert "the client logged 10.0.0.2:50051" in problems(call(instance=TWO), whole())[0]


def test_every_call_counts_once() -> None:
    lost = call(trace_id="f" * 32)
    verdict = judge([call(), lost], {TRACE: whole()})
    assert (verdict.calls, verdict.whole, verdict.excused, len(verdict.broken)) == (2, 1, 0, 1)
    assert verdict.broken[0].call is lost
    assert verdict.served == {ONE: 2}
    assert "1 of 2 calls have a whole trace" in str(verdict)
    assert "no span in Zipkin" in str(verdict)


def test_only_a_killed_instances_unsent_spans_are_excused() -> None:
    spans = without(whole(), LIST, "SERVER")
    ended = next(s["timestamp"] + s["duration"] for s in spans if s["name"] == LIST) / 1e6
    for excuse, excused in (
        (Excuse(ONE, ended - 1, ended), 1),
        (Excuse(TWO, ended - 1, ended), 0),
        (Excuse(ONE, ended + 0.001, ended + 1), 0),
    ):
        verdict = judge([call()], {TRACE: spans}, [excuse])
        assert (verdict.whole, verdict.excused, len(verdict.broken)) == (0, excused, 1 - excused)
    assert judge([call()], {TRACE: without(spans, INFO, "CLIENT")}, [Excuse(ONE, 0, 1e9)]).broken
