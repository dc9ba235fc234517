import asyncio

from meshkit.backoff import Backoff, Streak
from tests.support.fake_time import fake_time

WORST = Backoff(base=0.05, cap=1.0, uniform=lambda: 1.0)


@fake_time
async def test_failures_one_after_the_other_wait_longer_and_longer_up_to_the_cap() -> None:
    streak, delays = Streak(WORST), list[float]()
    for _ in range(8):
        delays.append(streak.delay())
        await asyncio.sleep(delays[-1])
    assert delays == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


@fake_time
async def test_what_lasted_before_it_failed_begins_a_new_row() -> None:
    streak = Streak(WORST)
    for _ in range(8):
        await asyncio.sleep(streak.delay())
    await asyncio.sleep(1.5)
    assert streak.delay() == 0.05
