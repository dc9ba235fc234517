"""Faults on demand (proto/faults.proto), as a client asks its instances for them: by command, or by an action."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import grpc
from faults_pb2 import ClearRequest, ExitRequest, Fault, GetRequest
from faults_pb2_grpc import FaultsStub

from meshkit import ClientTls, MeshError
from meshkit.client import instance_channel

__all__ = ["STATUSES", "Action", "Ask", "FaultError", "actions", "asked", "described"]

STATUSES: dict[str, int] = {code.name: code.value[0] for code in grpc.StatusCode if code is not grpc.StatusCode.OK}
# Seconds that an instance may take for its answer.
WITHIN = 3.0

Ask = Callable[[FaultsStub], Awaitable[Any]]
Action = Callable[[Mapping[str, Any]], Awaitable[str]]


class FaultError(MeshError):
    """An instance did not do what its Faults service was asked for; `code` is the status that it answered with."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


async def asked(instance: str, ask: Ask, *, tls: ClientTls | None = None) -> Any:
    """Ask an instance's Faults service, over a channel of its own: not balanced, traced, retried or judged.

    Args:
        instance: `host:port`.
        ask: makes the call, e.g. `lambda stub: stub.Clear(ClearRequest(), timeout=3)`.
        tls: None: plaintext.

    Raises:
        FaultError: it could not be reached, refused, or has no such service.
    """
    async with instance_channel(instance, tls=tls) as channel:
        try:
            return await ask(FaultsStub(channel))
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {error.details() or 'no details'}"
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                reason = "it takes no faults: start book-server with --faults"
            raise FaultError(f"{instance}: {reason}", error.code()) from error


def setting(fault: Fault) -> Ask:
    """Ask for a fault."""
    return lambda stub: stub.Set(fault, timeout=WITHIN)


def showing() -> Ask:
    """Ask which fault is set."""
    return lambda stub: stub.Get(GetRequest(), timeout=WITHIN)


def clearing() -> Ask:
    """Ask for the end of the fault."""
    return lambda stub: stub.Clear(ClearRequest(), timeout=WITHIN)


def exiting(code: int) -> Ask:
    """Ask for the end of the process, with an exit code."""
    return lambda stub: stub.Exit(ExitRequest(code=code), timeout=WITHIN)


def described(fault: Fault) -> str:
    """A fault in words, e.g. `answers 50% of its calls with UNAVAILABLE`."""
    if not fault.percent:
        return "no fault"
    late = f", {fault.delay_seconds:g} s late" if fault.delay_seconds else ""
    calls = f"{fault.percent:g}% of its calls"
    if fault.hang:
        return f"lets {calls} hang{late}"
    if fault.garbage:
        return f"answers {calls} with garbage{late}"
    name = next((name for name, code in STATUSES.items() if code == fault.status), str(fault.status))
    return f"answers {calls} with {name}{late}" if fault.status else f"answers {calls}{late}"


def actions(known: Callable[[], Collection[str]], *, tls: ClientTls | None = None) -> dict[str, Action]:
    """What a page may do to instances: sicken, slow, hang, garble, kill, heal.

    Each takes a body with `instance`, and answers with a short sentence.

    Args:
        known: the `host:port` of the instances that there are: nothing else is ever connected to.
        tls: None: plaintext.

    Raises (each action):
        ValueError: the body cannot be used; says what was expected.
        FaultError: the instance did not do it.
    """

    def action(fault_of: Callable[[Mapping[str, Any]], Fault]) -> Action:
        async def act(body: Mapping[str, Any]) -> str:
            instance, fault = _instance(body, known()), fault_of(body)
            return f"{instance} {described(await asked(instance, setting(fault), tls=tls))}"

        return act

    async def kill(body: Mapping[str, Any]) -> str:
        instance = _instance(body, known())
        await asked(instance, exiting(1), tls=tls)
        return f"{instance} ends, as by a crash"

    async def heal(body: Mapping[str, Any]) -> str:
        instance = _instance(body, known())
        await asked(instance, clearing(), tls=tls)
        return f"{instance} is well again"

    return {
        "sicken": action(lambda body: Fault(percent=_number(body, "percent", 100, 100), status=_status(body))),
        "slow": action(lambda body: Fault(percent=100, delay_seconds=_number(body, "seconds", 1, 3600))),
        "hang": action(lambda _: Fault(percent=100, hang=True)),
        "garble": action(lambda _: Fault(percent=100, garbage=True)),
        "kill": kill,
        "heal": heal,
    }


def _instance(body: Mapping[str, Any], known: Collection[str]) -> str:
    instance = body.get("instance")
    if not isinstance(instance, str) or instance not in known:
        raise ValueError(f"expected an instance that is there ({', '.join(sorted(known)) or 'none is'})")
    return instance


def _number(body: Mapping[str, Any], name: str, default: float, most: float) -> float:
    number = body.get(name, default)
    # Python's bool is an int, JSON's is not.
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= most:
        raise ValueError(f"expected {name} above 0 and at most {most:g}")
    return float(number)


def _status(body: Mapping[str, Any]) -> int:
    name = body.get("status", "UNAVAILABLE")
    if not isinstance(name, str) or name not in STATUSES:
        raise ValueError(f"expected a status out of {', '.join(STATUSES)}")
    return STATUSES[name]
