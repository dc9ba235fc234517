import asyncio
import contextlib
from collections import Counter
from typing import Any

import grpc
import pytest

from meshkit import Retry, RetryError, RoundRobin
from meshkit.backoff import Backoff
from meshkit.deadline import within
from meshkit.metrics import ClientMetrics, MethodCalls, ServerMetrics
from meshkit.metrics.calls import NAMED_METHODS, Connections
from tests.support.fake_time import fake_time
from tests.support.fakes import FixedEndpoints, answering, failing, rpc_error

Code = grpc.StatusCode
State = grpc.ChannelConnectivity


def counted(calls: MethodCalls) -> dict[str, int]:
    return {code.name: histogram.count for code, histogram in calls.by_code.items()}


def ended(calls: MethodCalls, code: grpc.StatusCode = Code.OK) -> None:
    calls.end(code, calls.begin())


@fake_time
async def test_the_middleware_counts_each_call_under_its_status() -> None:
    calls = MethodCalls("books")
    await calls(answering("book"))(None)
    for code in (Code.NOT_FOUND, Code.UNAVAILABLE, Code.UNAVAILABLE):
        with pytest.raises(grpc.aio.AioRpcError):
            await calls(failing(code))(None)

    async def hang(_: Any) -> None:
        await asyncio.sleep(3600)

    with pytest.raises(TimeoutError):
        async with within(1):
            await calls(hang)(None)
    task = asyncio.ensure_future(calls(hang)(None))
    await asyncio.sleep(1)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert calls.started == 6
    assert counted(calls) == {"OK": 1, "NOT_FOUND": 1, "UNAVAILABLE": 2, "DEADLINE_EXCEEDED": 1, "CANCELLED": 1}


@fake_time
async def test_retries_are_told_once_a_call_by_their_number() -> None:
    told = Counter[int]()

    async def moody(failures: list[int]) -> str:
        if failures:
            failures.pop()
            raise rpc_error(Code.UNAVAILABLE)
        return "book"

    source = FixedEndpoints(a=moody, b=moody, c=moody)
    call = Retry(RoundRobin(source), backoff=Backoff(0, 0), retried=lambda times: told.update([times]))
    for failures in (0, 1, 2, 2):
        assert await call([0] * failures) == "book"
    with pytest.raises(RetryError):
        await call([0] * 3)
    assert told == {1: 1, 2: 3}


def test_attempts_at_an_instance_that_is_gone_are_in_the_totals_those_under_way_included() -> None:
    metrics = ClientMetrics("etcd:///services/book/")
    with metrics.following("a:1"):
        attempts = metrics.attempts_at("a:1", "/Books/Get")
        ended(attempts)
        under_way = attempts.begin()
        with metrics.following("a:1"):  # As while its connection is made anew.
            ended(metrics.attempts_at("a:1", "/Books/Get"), Code.UNAVAILABLE)
        assert list(metrics.instances) == ["a:1"]
    assert list(metrics.instances) == []
    attempts.end(Code.OK, under_way)
    with metrics.following("a:1"):
        ended(metrics.attempts_at("a:1", "/Books/Get"))
        (total,) = metrics.attempts()
    assert (total.method, total.started, counted(total)) == ("Books/Get", 4, {"OK": 3, "UNAVAILABLE": 1})


def test_what_a_server_does_not_have_is_other_as_are_methods_beyond_a_limit() -> None:
    metrics = ServerMetrics()
    metrics.unknown()
    for number in range(NAMED_METHODS + 10):
        ended(metrics.calls_of(f"/Any/M{number}"))
    other = metrics.calls["other"]
    assert counted(other) == {"UNIMPLEMENTED": 1, "OK": 11}
    assert len(metrics.calls) == NAMED_METHODS


def test_connections_are_counted_by_how_a_channels_state_changes() -> None:
    connections = Connections()
    states = (State.IDLE, State.CONNECTING, State.READY, State.IDLE, State.CONNECTING, State.TRANSIENT_FAILURE)
    for old, new in zip(states, (*states[1:], State.READY), strict=True):
        connections.changed(old, new)
    assert (connections.succeeded, connections.failed, connections.lost, connections.open) == (2, 1, 1, 1)
    connections.changed(State.READY, State.SHUTDOWN)
    connections.changed(State.SHUTDOWN, State.SHUTDOWN)
    assert (connections.lost, connections.open) == (1, 0)
