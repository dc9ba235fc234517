import asyncio

import pytest
from structlog.testing import capture_logs

from meshkit import Registrar
from tests.support.fake_etcd import FakeEtcd
from tests.support.fake_time import fake_time

PREFIX, VALUE = "/services/book/", "127.0.0.1:50051"
KEY = PREFIX + VALUE


def registrar(etcd: FakeEtcd) -> Registrar:
    return Registrar(etcd, PREFIX, VALUE, ttl=10)


@fake_time
async def test_the_key_is_there_under_a_lease_while_the_body_runs_and_gone_after() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        assert etcd.keys[KEY].value == VALUE
        assert etcd.keys[KEY].lease in etcd.leases
    assert etcd.keys == {}
    assert etcd.leases == set()


@fake_time
async def test_the_lease_is_renewed_at_a_third_of_its_ttl() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        await asyncio.sleep(60)
        assert 17 <= etcd.renewals <= 20
        assert registration.renewals == etcd.renewals
        assert etcd.granted == 1


@fake_time
async def test_an_etcd_that_is_down_at_start_delays_the_registration_by_a_second_at_most() -> None:
    etcd = FakeEtcd()
    etcd.down = True
    async with registrar(etcd) as registration:
        await asyncio.sleep(100)
        assert not registration.registered
        etcd.down = False
        async with asyncio.timeout(1.1):
            await registration.wait_registered()


@fake_time
async def test_a_lost_lease_means_registering_again() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        lost = etcd.keys[KEY].lease
        await etcd.revoke(lost)
        await asyncio.sleep(1)
        assert etcd.keys[KEY].lease in etcd.leases - {lost}
        assert registration.registered


@fake_time
async def test_a_deleted_key_is_put_again() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        etcd.delete(KEY)
        await asyncio.sleep(1)
        assert KEY in etcd.keys


@fake_time
async def test_an_etcd_that_comes_back_without_its_data_is_registered_with_again() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        etcd.go_down()
        await asyncio.sleep(30)
        etcd.keys.clear()
        etcd.leases.clear()
        etcd.down = False
        await asyncio.sleep(2)
        assert etcd.keys[KEY].value == VALUE


@fake_time
async def test_a_successors_key_is_left_alone_and_not_deleted_on_leaving() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        etcd.leases.clear()
        etcd.set(KEY, "somebody else", 99)
        await asyncio.sleep(60)
        assert etcd.keys[KEY].value == "somebody else"
    assert etcd.keys[KEY].value == "somebody else"


@fake_time
async def test_leaving_takes_no_longer_because_etcd_is_away() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        etcd.go_down()
        start = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - start <= 3


@fake_time
async def test_answers_that_get_lost_leave_one_lease_and_no_gap() -> None:
    etcd = FakeEtcd()
    etcd.lost_answers = ["grant", "put", "put_if_absent"]
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        assert etcd.leases == {etcd.keys[KEY].lease}
        etcd.delete(KEY)
        await asyncio.sleep(1)
        # Its own key, put in a try whose answer got lost, is no successor's.
        assert registration.registered
        assert etcd.keys[KEY].lease in etcd.leases
        assert len(etcd.leases) == 1
    assert (etcd.keys, etcd.leases) == ({}, set())


@fake_time
async def test_a_key_that_is_always_deleted_again_is_put_with_backoff() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        before = etcd.granted
        for _ in range(1000):
            if KEY in etcd.keys:
                etcd.delete(KEY)
            await asyncio.sleep(0.01)
        assert 5 < etcd.granted - before < 60


@fake_time
async def test_leaving_in_the_middle_of_registering_leaves_nothing_and_says_that_it_may_be_known() -> None:
    etcd = FakeEtcd()
    etcd.lost_answers = ["put"] * 1000
    registration = await registrar(etcd).__aenter__()
    await asyncio.sleep(0.01)
    assert not registration.registered
    assert await registration.deregister()
    assert (etcd.keys, etcd.leases) == ({}, set())


@fake_time
async def test_leaving_tries_again_to_revoke_the_lease() -> None:
    etcd = FakeEtcd()
    registration = await registrar(etcd).__aenter__()
    await registration.wait_registered()
    etcd.down = True
    asyncio.get_running_loop().call_later(1, setattr, etcd, "down", False)
    await registration.deregister()
    assert (etcd.keys, etcd.leases) == ({}, set())


@pytest.mark.parametrize("reached", [True, False], ids=["etcd reached", "etcd away"])
def test_it_says_that_it_is_deregistered_only_where_that_is_so(reached: bool) -> None:
    @fake_time
    async def run() -> None:
        etcd = FakeEtcd()
        registration = await registrar(etcd).__aenter__()
        await registration.wait_registered()
        etcd.down = not reached
        with capture_logs() as logs:
            await registration.deregister()
        events = [entry["event"] for entry in logs]
        assert events[-1] == ("deregistered" if reached else "lease not revoked, it ends by itself")
        assert ("deregistered" in events) == reached

    run()


def test_a_ttl_below_a_second_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 s"):
        Registrar(FakeEtcd(), PREFIX, VALUE, ttl=0)


@fake_time
async def test_a_key_that_a_living_other_holds_is_told_and_so_is_its_return() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        etcd.set(KEY, VALUE, 99)
        async with asyncio.timeout(10):
            await registration.wait_displaced()
        assert not registration.registered
        with capture_logs() as logs:
            await asyncio.sleep(50)
        assert len(logs) <= 1, "a line a look would be a flood"
        etcd.delete(KEY)
        async with asyncio.timeout(10):
            await registration.wait_registered()
        assert not registration.displaced


@fake_time
async def test_an_etcd_that_is_away_displaces_nobody_and_is_told_of_once_a_minute() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        with capture_logs() as logs:
            etcd.go_down()
            await asyncio.sleep(150)
        assert registration.registered
        assert not registration.displaced
        counts = [entry["failures"] for entry in logs if entry["event"] == "lease not renewed, trying on"]
        assert len(counts) == 3
        assert counts[0] == 1
        assert min(counts[1:]) > 10


def test_a_port_that_nobody_can_call_is_not_registered() -> None:
    with pytest.raises(ValueError, match="a port from 1 to 65535"):
        Registrar(FakeEtcd(), PREFIX, "127.0.0.1:0")


@fake_time
async def test_each_outage_is_told_with_its_end_and_how_long_it_was() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        with capture_logs() as logs:
            for _ in range(2):
                etcd.go_down()
                await asyncio.sleep(8)
                etcd.down = False
                await asyncio.sleep(10)
        told = [(entry["event"], entry.get("after")) for entry in logs]
        assert [event for event, _ in told] == ["lease not renewed, trying on", "lease renewed again"] * 2
        assert all(after is None or 4 <= after <= 9 for _, after in told)


@fake_time
async def test_an_etcd_that_loses_each_lease_at_once_is_no_flood_of_log_lines() -> None:
    etcd = FakeEtcd()
    async with registrar(etcd) as registration:
        await registration.wait_registered()
        with capture_logs() as logs:
            for _ in range(600):
                etcd.leases.clear()
                await asyncio.sleep(0.1)
        assert 2 <= len(logs) <= 20
