import asyncio

from meshkit.backoff import Backoff, Outage, Streak
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
    streak.holds()
    await asyncio.sleep(1.5)
    assert streak.delay() == 0.05


@fake_time
async def test_a_try_that_takes_longer_than_the_cap_to_fail_begins_no_new_row() -> None:
    streak = Streak(WORST)
    for _ in range(8):
        await asyncio.sleep(2)
        delay = streak.delay()
    assert delay == 1.0


@fake_time
async def test_an_outage_is_told_at_once_for_another_reason_and_then_once_a_minute_with_a_count() -> None:
    outage = Outage()
    assert outage.failed("refused by port 1") == 1
    assert [outage.failed(f"refused by port {port}") for port in range(8)] == [0] * 8
    assert outage.failed("no answer") == 9
    await asyncio.sleep(61)
    assert outage.failed("no answer") == 1
    await asyncio.sleep(2)
    assert outage.over() == 63
    assert outage.over() is None
    assert outage.failed("no answer") == 1


@fake_time
async def test_reasons_that_are_always_new_are_no_flood() -> None:
    outage = Outage()
    assert sum(bool(outage.failed("x" * length)) for length in range(100)) == 5


@fake_time
async def test_a_second_outage_within_a_minute_is_told_and_so_is_its_end() -> None:
    outage = Outage()
    for _ in range(2):
        assert outage.failed("refused") == 1
        assert outage.failed("refused") == 0
        await asyncio.sleep(3)
        assert outage.over() == 3
        await asyncio.sleep(10)


@fake_time
async def test_what_comes_and_goes_all_the_time_is_no_flood_and_what_lasts_is_told() -> None:
    outage, told, ends = Outage(), 0, 0
    for _ in range(60):
        told += bool(outage.failed("refused"))
        await asyncio.sleep(0.5)
        ends += outage.over() is not None
        await asyncio.sleep(0.4)
    assert (told, ends) == (5, 5)
    # The sixth within the minute, and it stays.
    counts = []
    for _ in range(64):
        counts.append(outage.failed("refused"))
        await asyncio.sleep(0.125)
    assert [bool(count) for count in counts].index(True) == 40
    assert sum(map(bool, counts)) == 1
    # With those that were not told of.
    assert sum(counts) == 55 + 41
    assert outage.over() == 8
