import asyncio
import time

import pytest

from localmesh.waiting import NotYetError, until
from tests.e2e.harness import waiting


async def test_giving_up_says_what_was_waited_for_and_the_last_state() -> None:
    async def probe() -> None:
        raise NotYetError("2 of 3")

    with pytest.raises(TimeoutError, match=r"^three pods: not within 0\.01 s; last seen: 2 of 3$"):
        await until(probe, within=0.01, what="three pods", every=0.001)


async def test_a_question_that_hangs_is_given_up_too() -> None:
    with pytest.raises(TimeoutError, match="last seen: nothing: the first question had no answer"):
        await until(lambda: asyncio.sleep(60), within=0.01, what="an answer")


async def test_a_time_out_of_the_question_is_a_state() -> None:
    async def probe() -> None:
        raise TimeoutError("no answer from etcd")

    with pytest.raises(TimeoutError, match="last seen: a timeout: no answer from etcd"):
        await until(probe, within=0.01, what="etcd", every=0.001)


def test_without_an_event_loop_it_is_the_same() -> None:
    states = iter(["1 of 3", "2 of 3"])

    def probe() -> str:
        if state := next(states, None):
            raise NotYetError(state)
        return "3 of 3"

    assert waiting.until(probe, within=60, what="three pods", every=0) == "3 of 3"

    def never() -> None:
        raise NotYetError(f"{time.monotonic():g}")

    with pytest.raises(TimeoutError, match=r"^three pods: not within 0\.01 s; last seen: [\d.e+]+$"):
        waiting.until(never, within=0.01, what="three pods", every=0.001)
