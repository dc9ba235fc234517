"""Leaving a lifetime awaits its background task, and can still be cancelled meanwhile."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import pytest

from meshkit import ClientTls, Instancer, Registrar
from meshkit.server.health import HealthServicer
from meshkit.server.serving import _ready_once_registered
from meshkit.tls import PemWatch
from tests.support.fake_etcd import FakeEtcd
from tests.support.fake_time import fake_time

Lifetime = AbstractAsyncContextManager[Any]


class Unchanging:
    def changed(self) -> bool:
        return False


class NeverRegistered:
    async def wait_registered(self) -> None:
        await asyncio.sleep(3600)


def renewing(renew: Callable[[], None], pem: object) -> Lifetime:
    return ClientTls(cast(PemWatch, pem)).renewing(renew)


LIFETIMES: dict[str, Callable[[], Lifetime]] = {
    "Instancer": lambda: Instancer(FakeEtcd(), "/services/book/"),
    "Registrar": lambda: Registrar(FakeEtcd(), "/services/book/", "a:1"),
    "ClientTls.renewing": lambda: renewing(lambda: None, Unchanging()),
    "serving": lambda: _ready_once_registered(HealthServicer(), [""], cast(Registrar, NeverRegistered())),
}


@pytest.mark.parametrize("name", LIFETIMES)
def test_a_cancellation_that_comes_while_it_is_being_left_is_not_lost(name: str) -> None:
    async def live_on() -> None:
        async with LIFETIMES[name]():
            await asyncio.sleep(1)
            task = asyncio.current_task()
            assert task is not None
            # Runs as soon as this task waits for the one in the background.
            asyncio.get_running_loop().call_soon(task.cancel)

    @fake_time
    async def run() -> None:
        owner = asyncio.create_task(live_on())
        await asyncio.wait([owner])
        assert owner.cancelled()

    run()


@fake_time
async def test_what_a_background_task_has_failed_with_is_raised_where_it_is_left() -> None:
    class Changing:
        def changed(self) -> bool:
            return True

    def renew() -> None:
        raise RuntimeError("a bug of its own")

    with pytest.raises(RuntimeError, match="a bug of its own"):
        async with renewing(renew, Changing()):
            await asyncio.sleep(5)
