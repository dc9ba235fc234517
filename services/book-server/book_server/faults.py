"""Faults on demand (proto/faults.proto): what the calls of a service suffer while a fault is set, and who sets it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Collection
from typing import Any

import grpc
import structlog
from faults_pb2 import DESCRIPTOR, ClearRequest, ExitRequest, ExitResponse, Fault, GetRequest
from faults_pb2_grpc import FaultsServicer

from meshkit.server import HandlerInterceptor, MiddlewareInterceptor, leaving
from meshkit.server.handlers import Context, Handler, is_async, over_bytes
from meshkit.server.streams import guarded_handler

__all__ = ["SERVICE", "FaultInterceptor", "FaultSwitch", "check", "described", "interceptors"]

log = structlog.stdlib.get_logger("book-server")

SERVICE: str = DESCRIPTOR.services_by_name["Faults"].full_name
MAX_DELAY = 3600.0
# No message: a field of a wire type that there is not.
GARBAGE = b"\xff" * 40
# Seconds from the answer to an Exit to the process's end.
LAST_WORDS = 0.1
STATUSES = {code.value[0]: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}


class FaultSwitch(FaultsServicer):
    """The fault that is set, and the service that sets it.

    Args:
        rng: decides which calls are hit. Default: one of its own, seeded by the system.
        end: ends the process with an exit code. Default os._exit: as a crash, nothing is finished.
    """

    def __init__(self, rng: random.Random | None = None, end: Callable[[int], object] = os._exit) -> None:
        self._rng = rng or random.Random()
        self._end = end
        self._fault = Fault()
        # Set, and replaced, when the fault is cleared: calls that wait by it go on.
        self._cleared = asyncio.Event()

    def hit(self) -> Fault | None:
        """The fault that the next call suffers; None: none."""
        percent = self._fault.percent
        return self._fault if percent and self._rng.random() * 100 < percent else None

    async def wait(self, seconds: float | None) -> bool:
        """Wait by a fault: until it is cleared, the server leaves, or the time (None: for ever) is over.

        Returns:
            Whether the time is over, or the fault cleared: the server does not leave.
        """
        leaves = leaving()
        ends = [asyncio.ensure_future(event.wait()) for event in (self._cleared, leaves)]
        try:
            await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        return not leaves.is_set()

    async def Set(self, request: Fault, context: Context) -> Fault:  # noqa: N802
        """Set the fault; INVALID_ARGUMENT where it is out of bounds."""
        try:
            check(request)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if not request.percent:
            return self._clear()
        self._fault = request
        log.warning("fault set", fault=described(request))
        return request

    async def Get(self, request: GetRequest, context: Context) -> Fault:  # noqa: ARG002, N802
        """Tell the fault."""
        return self._fault

    async def Clear(self, request: ClearRequest, context: Context) -> Fault:  # noqa: ARG002, N802
        """Clear the fault."""
        return self._clear()

    async def Exit(self, request: ExitRequest, context: Context) -> ExitResponse:  # noqa: N802
        """End the process; INVALID_ARGUMENT for a code that no process can end with."""
        if not 0 <= request.code <= 255:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"expected an exit code from 0 to 255, got {request.code}"
            )
        log.warning("exit on demand", code=request.code)
        asyncio.get_running_loop().call_later(LAST_WORDS, self._end, request.code)
        return ExitResponse()

    def _clear(self) -> Fault:
        if self._fault.percent:
            log.warning("fault cleared", fault=described(self._fault))
        self._fault = Fault()
        cleared, self._cleared = self._cleared, asyncio.Event()
        cleared.set()
        return self._fault


def check(fault: Fault) -> None:
    """Check a fault's values.

    Raises:
        ValueError: one is out of bounds, or they do not go together; says what was expected.
    """
    if not 0 <= fault.percent <= 100:
        raise ValueError(f"expected a percent from 0 to 100, got {fault.percent:g}")
    if fault.status and fault.status not in STATUSES:
        raise ValueError(f"expected a status from 1 to 16, or 0 for none, got {fault.status}")
    if not 0 <= fault.delay_seconds <= MAX_DELAY:
        raise ValueError(f"expected a delay from 0 to {MAX_DELAY:g} seconds, got {fault.delay_seconds:g}")
    kinds = bool(fault.status) + fault.hang + fault.garbage
    if kinds > 1:
        raise ValueError("expected at most one of status, hang and garbage")
    if fault.percent and not kinds and not fault.delay_seconds:
        raise ValueError("expected a status, a delay, hang or garbage, got a fault that does nothing")


def described(fault: Fault) -> str:
    """A fault in words, e.g. `50% UNAVAILABLE after 0.2 s`."""
    if not fault.percent:
        return "none"
    what = STATUSES[fault.status].name if fault.status else "hang" if fault.hang else "garbage" if fault.garbage else ""
    after = f"after {fault.delay_seconds:g} s" if fault.delay_seconds else ""
    return " ".join(filter(None, (f"{fault.percent:g}%", what, after)))


class FaultInterceptor(HandlerInterceptor):
    """Has the calls of some services suffer the fault that is set.

    Put it last, next to the handlers: the span, the limiter and the deadline around it then take the fault for the
    service's own. The handler of a call that fails, hangs or answers garbage does not run.

    Args:
        switch: knows the fault.
        services: full names of the services to hit.
    """

    def __init__(self, switch: FaultSwitch, services: Collection[str]) -> None:
        super().__init__(services)
        self._switch = switch

    def wrap(self, handler: Handler, method: str) -> Handler:
        """Put the fault in front of a handler."""
        if not is_async(handler, method):
            return handler
        behavior, switch = guarded_handler(handler, method), self._switch

        async def faulty(request: Any, context: Context) -> Any:
            fault = switch.hit()
            if fault is None:
                return await behavior(request, context)
            if fault.delay_seconds:
                await switch.wait(fault.delay_seconds)
            if fault.hang and not await switch.wait(None):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server leaves: a call that hung, on demand")
            if fault.status:
                await context.abort(STATUSES[fault.status], "on demand")
            return GARBAGE if fault.garbage else await behavior(request, context)

        return over_bytes(handler, faulty)


def interceptors(switch: FaultSwitch, services: Collection[str]) -> tuple[HandlerInterceptor, ...]:
    """The fault for calls of `services`, and a proper status for what is wrong with a call of Faults itself."""
    return FaultInterceptor(switch, services), MiddlewareInterceptor(None, [SERVICE])
