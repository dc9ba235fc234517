"""Balancers, and what gRPC itself offers, at replicas that are slow or sick: simulated, and on real processes."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from benchmarks.replica import METHOD, SLOW
from localmesh.process import Process
from localmesh.waiting import NotYetError, until
from meshkit import MeshChannel, RoundRobin
from meshkit.client import InstanceEndpoint, LeastRequest, PeakEwma
from meshkit.deadline import within
from meshkit.middleware import ErroringLimiter, TokenBucket
from meshkit.testing import FixedInstances
from tests.support.fake_time import fake_time, now

__all__ = ["BALANCERS", "balance", "refused_share", "simulated_success"]

BALANCERS: dict[str, Any] = {"RoundRobin": RoundRobin, "LeastRequest": LeastRequest, "PeakEwma": PeakEwma}
# https://linkerd.io/2016/03/16/beyond-round-robin-load-balancing-for-latency/
SERVERS, USUAL, TIMEOUT = 11, 0.167, 1.0
SEED = 2016
CALL = Callable[[], Awaitable[object]]


async def balance(run_dir: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """All of it; success and shares are fractions of 1."""
    say(f"the scenario of 2016, on a simulated clock, seed {SEED}")
    simulated = await asyncio.to_thread(lambda: {name: simulated_success(name) for name in BALANCERS})
    refused = await asyncio.to_thread(lambda: {name: refused_share(name) for name in BALANCERS})
    say(f"the same with {SERVERS} processes, at 100 calls/s each")
    processes = await _on_processes(run_dir)
    policies = {}
    for how in ("UNAVAILABLE", "INTERNAL", "hang", "dead"):
        say(f"one of three: {how}")
        policies[how] = await _beside_grpc(run_dir, how)
    return {"seed": SEED, "simulated": simulated, "refused": refused, "processes": processes, "policies": policies}


async def paced(call: CALL, *, per_second: float, calls: int) -> int:
    """Make calls at a pace, whatever becomes of them; the number of those that succeeded."""
    good = 0

    async def one() -> None:
        nonlocal good
        try:
            await call()
            good += 1
        except (TimeoutError, grpc.RpcError):
            pass

    start = now()
    async with asyncio.TaskGroup() as group:
        for number in range(calls):
            await asyncio.sleep(start + number / per_second - now())
            group.create_task(one())
    return good


def simulated_success(name: str, *, per_second: int = 1000, seconds: int = 60, seed: int = SEED) -> float:
    """The share of calls that succeed within a second, of servers of which one is slow for the middle half."""
    share: list[float] = []

    @fake_time
    async def simulate() -> None:
        start = now()

        def server(number: int) -> Any:
            async def endpoint(_: Any) -> None:
                slow = number == 0 and seconds / 4 <= now() - start < seconds * 3 / 4
                await asyncio.sleep(SLOW if slow else USUAL)

            return endpoint

        picks = _balancer(name, [InstanceEndpoint(f"i{number}", server(number)) for number in range(SERVERS)], seed)

        async def call() -> None:
            async with within(TIMEOUT):
                await picks.pick()(None)

        share.append(await paced(call, per_second=per_second, calls=per_second * seconds) / per_second / seconds)

    simulate()
    return share[0]


def refused_share(name: str, *, seed: int = SEED) -> tuple[float, float]:
    """The share of picks that one of three gets, without and with a limiter there that refuses most of them at once."""
    shares: list[float] = []

    @fake_time
    async def simulate(*, limited: bool) -> None:
        async def answer(_: Any) -> None:
            await asyncio.sleep(0.02)

        limit = ErroringLimiter(TokenBucket(rate=10, clock=now))
        endpoints = [InstanceEndpoint(f"i{n}", limit(answer) if limited and n == 0 else answer) for n in range(3)]
        picks, counts = _balancer(name, endpoints, seed), Counter[str]()

        async def call() -> None:
            endpoint = picks.pick()
            counts[endpoint.instance] += 1
            await asyncio.gather(endpoint(None), return_exceptions=True)

        await paced(call, per_second=300, calls=9000)
        shares.append(counts["i0"] / counts.total())

    simulate(limited=False)
    simulate(limited=True)
    return shares[0], shares[1]


def _balancer(name: str, endpoints: list[Any], seed: int) -> Any:
    class Fixed:
        pass

    source: Any = Fixed()
    source.endpoints = endpoints
    options = {"RoundRobin": {}, "LeastRequest": {"rng": random.Random(seed)}}
    return BALANCERS[name](source, **options.get(name, {"rng": random.Random(seed), "clock": now}))


@asynccontextmanager
async def _replicas(run_dir: Path, *how: str) -> AsyncIterator[list[tuple[Process, str]]]:
    """Servers in processes of their own, with their addresses."""
    async with AsyncExitStack() as stack:
        started = []
        for number, what in enumerate(how):
            command = (sys.executable, "-m", "benchmarks.replica", what)
            process = Process(f"replica-{number}-{what}", command, run_dir=run_dir)
            await stack.enter_async_context(process)
            started.append(process)

        async def ports() -> list[str]:
            if not all(process.output().strip().isdigit() for process in started):
                raise NotYetError([process.output() for process in started])
            return [process.output().strip() for process in started]

        yield [
            (process, f"127.0.0.1:{port}")
            for process, port in zip(started, await until(ports, within=120, what="the replicas"), strict=True)
        ]


async def _on_processes(run_dir: Path, *, per_second: int = 100, seconds: int = 60) -> dict[str, float]:
    async with _replicas(run_dir, *[str(USUAL)] * SERVERS) as replicas, AsyncExitStack() as stack:
        slow = replicas[0][0]
        addresses = [address for _, address in replicas]
        alone = {"attempts": 1, "breaker": None}
        options: dict[str, dict[str, Any]] = {
            name: {"balancer": balancer, **alone} for name, balancer in BALANCERS.items()
        }
        # What a client has that changes nothing but says that its calls may be made twice.
        options["RoundRobin, retries and ejection"] = {"idempotent": True}
        calls = {}
        for name, of in options.items():
            channel = await stack.enter_async_context(MeshChannel(FixedInstances(*addresses), **of))
            await channel.channel_ready()
            calls[name] = channel.unary_unary(METHOD)

        async def trouble() -> None:
            await asyncio.sleep(seconds / 4)
            slow.send(signal.SIGUSR1)
            await asyncio.sleep(seconds / 2)
            slow.send(signal.SIGUSR1)

        turning = asyncio.create_task(trouble())
        total = per_second * seconds
        good = await asyncio.gather(
            *(
                paced(lambda call=call: call(b"", timeout=TIMEOUT), per_second=per_second, calls=total)  # type: ignore[misc]
                for call in calls.values()
            )
        )
        await turning
    return {name: number / total for name, number in zip(calls, good, strict=True)}


# What gRPC for Python takes as a service config; the names of its parts are those of the proposals A50 and A6.
_RETRIES = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.25s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_FEW = {"threshold": 50, "minimumHosts": 3, "requestVolume": 5}


def _ejecting(**options: Any) -> dict[str, Any]:
    policy = {"childPolicy": [{"round_robin": {}}], **options}
    return {"loadBalancingConfig": [{"outlier_detection_experimental": policy}]}


_OF_GRPC: dict[str, dict[str, Any]] = {
    "gRPC round_robin": {"loadBalancingConfig": [{"round_robin": {}}]},
    "and retries (A6)": {"loadBalancingConfig": [{"round_robin": {}}], **_RETRIES},
    "and outlier detection (A50), its defaults": {
        **_ejecting(successRateEjection={}, failurePercentageEjection={}),
        **_RETRIES,
    },
    "the same for 3 hosts, every second": {**_ejecting(interval="1s", failurePercentageEjection=_FEW), **_RETRIES},
}


async def _beside_grpc(run_dir: Path, how: str, *, per_second: int = 20, seconds: int = 30) -> dict[str, Any]:
    """Failed calls, and those that took half of their time, of clients of three replicas, one of them sick."""
    total = per_second * seconds
    sick = "0" if how == "dead" else how
    async with _replicas(run_dir / how, sick, "0", "0") as replicas, AsyncExitStack() as stack:
        addresses = [address for _, address in replicas]
        calls: dict[str, Any] = {}
        for name, config in _OF_GRPC.items():
            options = [("grpc.service_config", json.dumps(config)), ("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.insecure_channel("ipv4:" + ",".join(addresses), options=options)
            calls[name] = (await stack.enter_async_context(channel)).unary_unary(METHOD)
        for name, idempotent in (("meshkit", False), ("meshkit, idempotent", True)):
            mesh = await stack.enter_async_context(MeshChannel(FixedInstances(*addresses), idempotent=idempotent))
            calls[name] = mesh.unary_unary(METHOD)
        slow: Counter[str] = Counter()

        async def timed(name: str) -> None:
            start = now()
            await calls[name](b"", timeout=TIMEOUT)
            if now() - start > TIMEOUT / 2:
                slow[name] += 1

        if how == "dead":
            # While clients are connected to it.
            await asyncio.gather(*(call(b"", timeout=5, wait_for_ready=True) for call in calls.values() for _ in "123"))
            await replicas[0][0].kill()
        good = await asyncio.gather(
            *(paced(lambda name=name: timed(name), per_second=per_second, calls=total) for name in calls)  # type: ignore[misc]
        )
    return {
        name: {"failed": total - number, "slow": slow[name], "calls": total}
        for name, number in zip(calls, good, strict=True)
    }
