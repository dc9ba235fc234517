import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from meshkit import Instancer
from meshkit.address import parse_address
from meshkit.discovery import InstanceChange
from meshkit.errors import EtcdError, WatchCanceledError
from tests.support.fake_etcd import FakeEtcd
from tests.support.fake_time import fake_time

PREFIX = "/services/book/"
A, B = "10.0.0.1:50051", "10.0.0.2:50051"


def with_instances(*addresses: str) -> FakeEtcd:
    etcd = FakeEtcd()
    for address in addresses:
        etcd.set(PREFIX + address, address)
    return etcd


@fake_time
async def test_it_lists_then_follows_every_change() -> None:
    etcd, heard = with_instances(A), list[InstanceChange]()
    async with Instancer(etcd, PREFIX) as instancer:
        instancer.subscribe(heard.append)
        assert await instancer.wait_instances() == {A}
        etcd.set(PREFIX + B, B)
        await asyncio.sleep(0.001)
        etcd.delete(PREFIX + A)
        await asyncio.sleep(0.001)
        assert instancer.instances == {B}
    assert heard == [
        InstanceChange(frozenset({A}), frozenset()),
        InstanceChange(frozenset({B}), frozenset()),
        InstanceChange(frozenset(), frozenset({A})),
    ]


@fake_time
async def test_a_later_subscriber_hears_what_is_known() -> None:
    heard: list[InstanceChange] = []
    async with Instancer(with_instances(A, B), PREFIX) as instancer:
        await instancer.wait_instances()
        unsubscribe = instancer.subscribe(heard.append)
        unsubscribe()
    assert heard == [InstanceChange(frozenset({A, B}), frozenset())]


@pytest.mark.parametrize(
    "error", [EtcdError("broken"), WatchCanceledError("compacted", 7)], ids=["broken", "compacted"]
)
def test_a_watch_that_ends_means_listing_again(error: EtcdError) -> None:
    @fake_time
    async def run() -> None:
        etcd = with_instances(A)
        async with Instancer(etcd, PREFIX) as instancer:
            await instancer.wait_instances()
            etcd.end_watches(error)
            etcd.keys.clear()
            etcd.set(PREFIX + B, B)
            await asyncio.sleep(0.2)
            assert instancer.instances == {B}
            assert not instancer.stale

    run()


@fake_time
async def test_while_etcd_is_away_the_last_known_instances_stay_marked_stale() -> None:
    etcd = with_instances(A, B)
    async with Instancer(etcd, PREFIX) as instancer:
        await instancer.wait_instances()
        assert (instancer.stale, instancer.reason) == (False, None)
        etcd.go_down()
        await asyncio.sleep(3600)
        assert instancer.instances == {A, B}
        assert instancer.stale
        assert instancer.reason == "connection refused"
        etcd.down = False
        await asyncio.sleep(1.1)
        assert not instancer.stale


@fake_time
async def test_the_set_is_emptied_only_where_that_was_asked_for() -> None:
    etcd = with_instances(A)
    async with Instancer(etcd, PREFIX, invalidate_after=10) as instancer:
        await instancer.wait_instances()
        etcd.go_down()
        await asyncio.sleep(9)
        assert instancer.instances == {A}
        await asyncio.sleep(2)
        assert instancer.instances == frozenset()


@fake_time
async def test_emptying_the_set_is_one_change_and_does_not_say_that_the_last_ones_are_kept() -> None:
    etcd, heard = with_instances(A, B), list[InstanceChange]()
    async with Instancer(etcd, PREFIX, invalidate_after=10) as instancer:
        await instancer.wait_instances()
        instancer.subscribe(heard.append)
        etcd.go_down()
        with capture_logs() as logs:
            await asyncio.sleep(20)
        assert heard[1:] == [InstanceChange(frozenset(), frozenset({A, B}))]
        events = [entry["event"] for entry in logs]
        assert events[-2:] == ["instances invalidated", "instances changed"]
        assert "no instance listed any more, keeping the last" not in events
        etcd.down = False
        await asyncio.sleep(2)
        assert heard[2:] == [InstanceChange(frozenset({A, B}), frozenset())]


@fake_time
async def test_an_event_that_got_lost_is_made_up_for_by_the_next_listing() -> None:
    etcd = with_instances(A)
    async with Instancer(etcd, PREFIX, relist=60) as instancer:
        await instancer.wait_instances()
        etcd.keys[PREFIX + B] = type(etcd.keys[PREFIX + A])(PREFIX + B, B)
        await asyncio.sleep(61)
        assert instancer.instances == {A, B}


@fake_time
async def test_values_that_are_no_addresses_are_ignored_and_neighbours_never_match() -> None:
    etcd = with_instances(A)
    etcd.set(PREFIX + "junk", "\ufffd\ufffd")
    etcd.set("/services/bookstore/10.0.0.9:1", "10.0.0.9:1")
    async with Instancer(etcd, PREFIX) as instancer:
        assert await instancer.wait_instances() == {A}


@fake_time
async def test_an_instance_is_the_prefix_and_its_address_and_a_port_that_can_be_called() -> None:
    etcd = with_instances(A)
    etcd.set(PREFIX + "admin/10.0.0.7:1", "10.0.0.7:1")
    etcd.set(PREFIX + "10.0.0.8:1", "10.0.0.9:1")
    etcd.set(PREFIX + "10.0.0.9:0", "10.0.0.9:0")
    async with Instancer(etcd, PREFIX) as instancer:
        assert await instancer.wait_instances() == {A}
        etcd.set(PREFIX + "again", A)
        etcd.delete(PREFIX + A)
        await asyncio.sleep(10)
        assert instancer.instances == frozenset()


@fake_time
async def test_the_last_instances_stay_for_a_moment_after_etcd_lists_none() -> None:
    etcd, heard = with_instances(A), list[InstanceChange]()
    async with Instancer(etcd, PREFIX, keep_last=3) as instancer:
        await instancer.wait_instances()
        instancer.subscribe(heard.append)
        etcd.delete(PREFIX + A)
        await asyncio.sleep(2.9)
        assert instancer.instances == {A}
        etcd.set(PREFIX + A, A)
        await asyncio.sleep(10)
        assert heard == [InstanceChange(frozenset({A}), frozenset())]
        etcd.delete(PREFIX + A)
        await asyncio.sleep(3.1)
        assert instancer.instances == frozenset()
        assert heard[-1] == InstanceChange(frozenset(), frozenset({A}))


@fake_time
async def test_the_last_instances_of_an_etcd_that_then_goes_away_stay_until_it_is_back() -> None:
    etcd = with_instances(A)
    async with Instancer(etcd, PREFIX, keep_last=3) as instancer:
        await instancer.wait_instances()
        etcd.delete(PREFIX + A)
        etcd.end_watches(EtcdError("gone"))
        etcd.down = True
        await asyncio.sleep(60)
        assert instancer.stale
        assert instancer.instances == {A}
        etcd.down = False
        await asyncio.sleep(2)
        assert instancer.instances == {A}
        await asyncio.sleep(3)
        assert instancer.instances == frozenset()


@fake_time
async def test_kept_instances_give_way_to_those_that_are_listed() -> None:
    etcd, heard = with_instances(A), list[InstanceChange]()
    async with Instancer(etcd, PREFIX) as instancer:
        await instancer.wait_instances()
        instancer.subscribe(heard.append)
        etcd.delete(PREFIX + A)
        await asyncio.sleep(1)
        etcd.set(PREFIX + B, B)
        await asyncio.sleep(0.001)
        assert instancer.instances == {B}
        assert heard[-1] == InstanceChange(frozenset({B}), frozenset({A}))


@fake_time
async def test_watches_that_are_always_refused_are_tried_with_backoff() -> None:
    etcd = with_instances(A)
    etcd.watches_refused = True
    async with Instancer(etcd, PREFIX) as instancer:
        await asyncio.sleep(100)
        assert 100 < etcd.watched < 400
        etcd.watches_refused = False
        await asyncio.sleep(1.1)
        assert not instancer.stale


@fake_time
async def test_a_watch_that_flaps_is_told_of_five_times_a_minute_at_most_and_so_is_its_recovery() -> None:
    etcd = with_instances(A)
    etcd.watches_refused = True
    with capture_logs() as logs:
        async with Instancer(etcd, PREFIX):
            await asyncio.sleep(100)
    told = [entry["event"] for entry in logs if entry["event"] != "instances changed"]
    assert told == ["instances may be stale", "instances are up to date again"] * 10


@fake_time
async def test_an_observer_that_raises_does_not_end_discovery() -> None:
    def broken(change: InstanceChange) -> None:
        raise RuntimeError("a bug of its own")

    etcd = with_instances(A)
    async with Instancer(etcd, PREFIX) as instancer:
        await instancer.wait_instances()
        unsubscribe = instancer.subscribe(lambda change: None)
        instancer._observers.append(broken)
        etcd.set(PREFIX + B, B)
        await asyncio.sleep(2)
        assert instancer.instances == {A, B}
        assert not instancer.stale
        unsubscribe()


@fake_time
async def test_an_observer_that_raises_keeps_no_change_from_those_after_it() -> None:
    def broken(change: InstanceChange) -> None:
        if B in change.added:
            raise RuntimeError("a bug of its own")

    etcd, heard = with_instances(A), list[InstanceChange]()
    async with Instancer(etcd, PREFIX) as instancer:
        await instancer.wait_instances()
        instancer.subscribe(broken)
        instancer.subscribe(heard.append)
        with capture_logs() as logs:
            etcd.set(PREFIX + B, B)
            await asyncio.sleep(2)
        assert heard[1:] == [InstanceChange(frozenset({B}), frozenset())]
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["an observer of instances failed"]


@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=300), max_size=20))
def test_whatever_bytes_are_under_the_prefix_it_lists_what_is_an_address(entries: dict[bytes, bytes]) -> None:
    @fake_time
    async def run() -> None:
        etcd = with_instances(A)
        for key, value in entries.items():
            etcd.set(PREFIX + key.decode(errors="replace"), value.decode(errors="replace"))
        async with Instancer(etcd, PREFIX) as instancer:
            assert A in await instancer.wait_instances()
            for instance in instancer.instances:
                parse_address(instance)

    run()


def test_a_prefix_without_its_slash_is_refused() -> None:
    with pytest.raises(ValueError, match="neighbours"):
        Instancer(FakeEtcd(), "/services/book")


@fake_time
async def test_of_many_entries_that_are_no_instances_only_the_number_is_told_once_a_minute() -> None:
    etcd = with_instances(A)
    for number in range(5000):
        etcd.set(f"{PREFIX}junk-{number}", "x")
    with capture_logs() as logs:
        async with Instancer(etcd, PREFIX, relist=10.0) as instancer:
            assert await instancer.wait_instances() == {A}
            await asyncio.sleep(55)
    ignored = [entry for entry in logs if entry["event"] == "registration ignored"]
    more = [entry["count"] for entry in logs if entry["event"] == "more registrations ignored"]
    assert (len(ignored), more) == (20, [4980])


@fake_time
async def test_each_outage_within_a_minute_is_told_with_its_end_and_how_long_it_was() -> None:
    etcd = with_instances(A)
    with capture_logs() as logs:
        async with Instancer(etcd, PREFIX):
            await asyncio.sleep(1)
            for _ in range(2):
                etcd.go_down()
                await asyncio.sleep(8)
                etcd.down = False
                await asyncio.sleep(5)
    told = [entry for entry in logs if entry["event"] != "instances changed"]
    # The watch's end, and the listing's failure.
    away = ["instances may be stale"] * 2
    assert [entry["event"] for entry in told] == [*away, "instances are up to date again"] * 2
    assert all(8 <= entry["after"] <= 9.1 for entry in told[2::3])
