"""The types that a user of meshkit sees: `make types` checks them; running this file proves that it is not stale."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, assert_type

import grpc
from opentelemetry.trace import Span, Tracer

import meshkit
from meshkit.client import InstanceEndpoint
from meshkit.deadline import remaining
from meshkit.errors import FailedAttempt
from tests.support.fake_etcd import FakeEtcd


async def length(request: str) -> int:
    return len(request)


def length_over(_: grpc.aio.Channel, __: str) -> Callable[[str], Awaitable[int]]:
    return length


def check_program(error: meshkit.RetryError, span: Span) -> None:
    with meshkit.stop_signal() as stop:
        assert_type(stop, asyncio.Event)
    assert_type(meshkit.run_async(length("a")), int)
    assert_type(error.attempts, tuple[FailedAttempt, ...])
    assert_type(error.code, grpc.StatusCode)
    assert_type(meshkit.trace_id_of(span), str)


async def check_calls(endpointer: meshkit.Endpointer[str, int], tracer: Tracer) -> None:
    factory = meshkit.channel_factory(length_over, tracer)
    assert_type(factory("127.0.0.1:1"), AbstractAsyncContextManager[Callable[[str], Awaitable[int]], bool | None])
    balancer = meshkit.RoundRobin(endpointer)
    assert_type(balancer.pick(), InstanceEndpoint[str, int])
    retry = meshkit.Retry(balancer)
    assert_type(await retry("a"), int)
    assert_type(await meshkit.HystrixBreaker("a", meshkit.HystrixPolicy(probes=2))(retry)("a"), int)
    meshkit.HystrixBreaker("a", probes="2")  # type: ignore[arg-type]
    meshkit.HystrixBreaker("a", prob=2)  # type: ignore[call-arg]
    assert_type(await meshkit.DelayingLimiter(meshkit.TokenBucket(1))(retry)("a"), int)
    assert_type(remaining(), float | None)
    with meshkit.root_span(tracer, "a") as span:
        assert_type(span, Span)


async def check_server(registrar: meshkit.Registrar, add: Callable[[grpc.aio.Server], None]) -> None:
    async with meshkit.serve(add, ["A"], listen="127.0.0.1:0", registrar=registrar) as port:
        assert_type(port, int)
    async with meshkit.open_tracer("a") as tracer:
        assert_type(tracer, Tracer)
    assert_type(await registrar.deregister(), bool)
    async with meshkit.Instancer(FakeEtcd(), "/a/") as instancer:
        assert_type(instancer.instances, frozenset[str])


async def test_middlewares_of_one_shape_chain() -> None:
    limit: meshkit.Middleware[str, int] = meshkit.DelayingLimiter(meshkit.TokenBucket(1000, 10))
    guard: meshkit.Middleware[str, int] = meshkit.HystrixBreaker("lengths")
    guarded: meshkit.Endpoint[str, int] = meshkit.chain(guard, limit)(length)
    assert_type(await guarded("four"), int)
    assert await guarded("four") == 4


def test_what_is_checked_exists() -> None:
    checks: list[Any] = [check_program, check_calls, check_server]
    assert all(callable(check) for check in checks)
