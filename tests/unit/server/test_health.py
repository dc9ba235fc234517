from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

from meshkit.server.health import NOT_SERVING, SERVING, HealthServicer
from tests.support.fake_time import fake_time

SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class AbortedError(Exception):
    pass


class Context:
    async def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        raise AbortedError(code, details)


async def check(servicer: HealthServicer, service: str) -> int:
    context: Any = Context()
    return int((await servicer.Check(health_pb2.HealthCheckRequest(service=service), context)).status)


async def watch(servicer: HealthServicer, service: str) -> AsyncIterator[int]:
    context: Any = Context()
    async for answer in servicer.Watch(health_pb2.HealthCheckRequest(service=service), context):
        yield answer.status


def with_services() -> HealthServicer:
    servicer = HealthServicer()
    servicer.set(NOT_SERVING, "", "BookService")
    return servicer


@fake_time
async def test_check_tells_the_status_and_not_found_of_a_service_that_is_unknown() -> None:
    servicer = with_services()
    assert await check(servicer, "BookService") == NOT_SERVING
    servicer.set(SERVING, "BookService")
    assert (await check(servicer, "BookService"), await check(servicer, "")) == (SERVING, NOT_SERVING)
    with pytest.raises(AbortedError) as caught:
        await check(servicer, "Library")
    assert caught.value.args[0] is grpc.StatusCode.NOT_FOUND


@fake_time
async def test_a_watcher_hears_the_status_at_once_and_then_each_other_one() -> None:
    servicer = with_services()
    heard = watch(servicer, "")
    assert await anext(heard) == NOT_SERVING
    servicer.set(NOT_SERVING, "")
    servicer.set(SERVING, "", "BookService")
    assert await anext(heard) == SERVING
    servicer.set(NOT_SERVING, "")
    assert await anext(heard) == NOT_SERVING


@fake_time
async def test_a_watcher_that_does_not_read_delays_no_status_and_reads_the_last_one() -> None:
    servicer = with_services()
    slow, other = watch(servicer, ""), watch(servicer, "")
    assert (await anext(slow), await anext(other)) == (NOT_SERVING, NOT_SERVING)
    servicer.set(SERVING, "")
    assert (await check(servicer, ""), await anext(other)) == (SERVING, SERVING)
    servicer.set(NOT_SERVING, "")
    servicer.set(SERVING, "")
    servicer.end_watches()
    assert [status async for status in slow] == [SERVING]


@fake_time
async def test_of_two_watchers_the_one_that_stays_hears_on() -> None:
    servicer = with_services()
    goes, stays = watch(servicer, ""), watch(servicer, "")
    assert (await anext(goes), await anext(stays)) == (NOT_SERVING, NOT_SERVING)
    await goes.aclose()  # type: ignore[attr-defined]
    servicer.set(SERVING, "")
    assert await anext(stays) == SERVING


@fake_time
async def test_a_watcher_of_an_unknown_service_is_told_so_and_hears_once_it_is_known() -> None:
    servicer = with_services()
    heard = watch(servicer, "Library")
    assert await anext(heard) == SERVICE_UNKNOWN
    servicer.set(SERVING, "Library")
    assert await anext(heard) == SERVING


@fake_time
async def test_watches_end_after_the_last_status_and_later_ones_after_their_first() -> None:
    servicer = with_services()
    servicer.set(SERVING, "")
    heard = watch(servicer, "")
    assert await anext(heard) == SERVING
    servicer.set(NOT_SERVING, "")
    servicer.end_watches()
    assert [status async for status in heard] == [NOT_SERVING]
    assert [status async for status in watch(servicer, "")] == [NOT_SERVING]
