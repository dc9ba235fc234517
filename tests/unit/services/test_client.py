"""The client's calls, without a network: what is asked for, and what its log and its counts say."""

import asyncio
from collections.abc import Collection
from dataclasses import fields
from typing import Any

import grpc
import pytest
from book_client.__main__ import Settings, command, guarded
from book_client.caller import Caller
from book_client.conversation import Conversation
from book_client.tally import Tally
from book_pb2 import BookInfo
from structlog.testing import capture_logs

from meshkit import Endpoint
from meshkit.program.cli import EtcdAccess
from meshkit.program.trace_flags import Tracing
from meshkit.tracing import tracer_provider
from tests.support.fake_time import fake_time, now
from tests.support.fakes import FixedEndpoints, answering, failing

ANSWER = Conversation("127.0.0.1:1", 1, BookInfo(book_id=1, book_name="book"), ())
answer = answering(ANSWER)


async def hang(_: Any) -> Any:
    await asyncio.sleep(3600)


def settings(*flags: str) -> Settings:
    given = command.make_context("book-client", list(flags)).params
    own = {field.name for field in fields(Settings)} - {"etcd"}
    return Settings(
        etcd=EtcdAccess((), None, None), tracing=Tracing(), **{name: given[name] for name in given if name in own}
    )


async def calls(
    books: Endpoint[int, Conversation], *, workers: int = 1, stop: asyncio.Event | None = None, **options: Any
) -> tuple[list[Any], Tally]:
    """Make them; the log lines, and the counts."""
    tally = Tally()
    caller = Caller(books, tracer_provider("test").get_tracer("test"), tally, stop or asyncio.Event(), **options)
    with capture_logs() as lines:
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(caller.work())
    return [line for line in lines if line["event"] == "call"], tally


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--timeout", "5s"),
        ("--timeout", "5s", "--breaker-timeout", "5s"),
        ("--timeout", "5s", "--breaker-timeout", "4.999s"),
        ("--breaker-timeout", "100ms"),
    ],
    ids=" ".join,
)
@fake_time
async def test_a_call_that_runs_out_of_time_tells_of_every_attempt(flags: tuple[str, ...]) -> None:
    given = settings(*flags)
    start = now()
    (call,), tally = await calls(guarded(given, FixedEndpoints(a=hang, b=hang, c=hang)), calls=1)
    assert now() - start <= min(given.timeout, given.breaker_timeout) + 1e-6
    assert (call["outcome"], call["attempts"], tally.failures) == ("DEADLINE_EXCEEDED", 3, 1)
    assert call["instance"] in {"a", "b", "c"}
    assert all(f" {instance} DEADLINE_EXCEEDED after" in call["error"] for instance in "abc")


@fake_time
async def test_calls_that_run_out_of_time_open_the_breaker() -> None:
    books = guarded(settings("--breaker-timeout", "1s"), FixedEndpoints(a=hang, b=hang, c=hang))
    await calls(books, workers=5, calls=5)
    (refused,), _ = await calls(books, calls=1)
    assert "breaker book-service is open" in refused["error"]
    assert (refused["instance"], refused["attempts"]) == ("none", 0)


@pytest.mark.parametrize(
    ("flags", "to_the_slow_one"),
    [
        ((), [10]),
        (("--balancer", "round-robin"), [10]),
        (("--balancer", "random"), range(2, 25)),
        (("--balancer", "least-request"), [0, 1]),
        # Of two drawn ones; once in a long while both are the same.
        (("--balancer", "peak-ewma"), range(4)),
    ],
    ids=str,
)
@fake_time
async def test_a_slow_instance_gets_as_many_calls_as_the_balancer_gives_it(
    flags: tuple[str, ...], to_the_slow_one: Collection[int]
) -> None:
    picked = 0

    async def slow(_: Any) -> Conversation:
        nonlocal picked
        picked += 1
        await asyncio.sleep(1.0)
        return ANSWER

    books = guarded(settings(*flags), FixedEndpoints(slow=slow, a=answer, b=answer))
    await calls(books, workers=30, calls=30)
    assert picked in to_the_slow_one


@fake_time
async def test_told_to_stop_before_the_first_call_it_makes_none() -> None:
    stop = asyncio.Event()
    stop.set()
    lines, tally = await calls(answer, workers=4, stop=stop)
    assert lines == []
    assert tally.calls == 0


@fake_time
async def test_nobody_waits_after_the_last_call() -> None:
    start = now()
    lines, _ = await calls(answer, calls=3, interval=60)
    assert [line["call"] for line in lines] == [1, 2, 3]
    assert now() - start == pytest.approx(120)


@fake_time
async def test_a_refused_last_call_is_not_waited_after_either() -> None:
    start = now()
    (line,), _ = await calls(guarded(settings("--attempts", "1"), FixedEndpoints()), calls=1)
    assert line["outcome"] == "UNAVAILABLE"
    assert now() - start == 0


@fake_time
async def test_a_worker_in_its_pause_goes_home_when_another_takes_the_last_call() -> None:
    async def second_takes_10_s(number: int) -> Conversation:
        await asyncio.sleep(10 if number == 2 else 0)
        return ANSWER

    start = now()
    lines, _ = await calls(second_takes_10_s, workers=2, calls=3, interval=60)
    assert [line["call"] for line in lines] == [1, 2, 3]
    assert now() - start == pytest.approx(60)


@fake_time
async def test_told_to_stop_it_ends_its_pause_and_leaves_no_gap_in_the_numbers() -> None:
    stop = asyncio.Event()
    start = now()
    asyncio.get_running_loop().call_later(150, stop.set)
    lines, _ = await calls(answer, workers=2, stop=stop, interval=60)
    assert [line["call"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert now() - start == pytest.approx(150)


@fake_time
async def test_more_workers_than_calls_make_no_call_twice() -> None:
    lines, tally = await calls(answer, workers=10, calls=3)
    assert [line["call"] for line in lines] == [1, 2, 3]
    assert tally.calls == 3


class OddEnd(BaseException):
    """No Exception, and not asyncio's."""


@pytest.mark.parametrize("error", [ValueError("a bug"), OddEnd("odd"), asyncio.CancelledError()], ids=repr)
def test_whatever_ends_a_call_it_is_logged_and_counted_and_its_worker_goes_on(error: BaseException) -> None:
    @fake_time
    async def run() -> None:
        async def second_fails(number: int) -> Conversation:
            if number == 2:
                raise error
            return ANSWER

        lines, tally = await calls(second_fails, calls=3)
        assert [line["outcome"] for line in lines] == ["ok", "UNKNOWN", "ok"]
        assert lines[1]["error"] == repr(error)
        assert (tally.calls, tally.failures) == (3, 1)

    run()


@fake_time
async def test_a_call_that_a_server_refused_is_followed_by_a_pause() -> None:
    start = now()
    books = guarded(settings("--attempts", "1"), FixedEndpoints(a=failing(grpc.StatusCode.RESOURCE_EXHAUSTED)))
    lines, _ = await calls(books, calls=11)
    assert {line["outcome"] for line in lines} == {"RESOURCE_EXHAUSTED"}
    assert now() - start == pytest.approx(1)
