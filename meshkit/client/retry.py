"""Retry: the attempts of one call, each on another instance, inside one deadline."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Generic

import grpc

from meshkit import caller, deadline
from meshkit.attempt import Attempt, current_attempt
from meshkit.backoff import Backoff
from meshkit.client.balancer import Balancer
from meshkit.client.budget import RetryBudget
from meshkit.client.hedge import Hedging
from meshkit.client.instance import InstanceEndpoint
from meshkit.endpoint import Request, Response
from meshkit.errors import (
    FailedAttempt,
    NoEndpointsError,
    RefusedError,
    RetryError,
    is_retryable,
    meaning_of,
    status_of,
)

__all__ = ["Retry"]


# Seconds before a call is made again that was refused with RESOURCE_EXHAUSTED: the instance is overloaded.
PAUSE_AFTER_REFUSAL = 0.1


class Retry(Generic[Request, Response]):
    """An endpoint over a balancer: makes up to `attempts` attempts, and is done within `timeout`.

    An attempt never goes to an instance that this call has already tried while another is left. Each gets an equal
    share of the time that is left for it and those that may follow, so that one hung instance cannot eat the whole
    budget; the last one gets all that remains, as does any that cannot be followed by another once its time is up.
    When another instance answers well, a status such as PERMISSION_DENIED counts against the instance that gave it; by
    itself it does not.

    Retries of nested tiers do not multiply: within a call that its caller makes again (gRPC's header
    `grpc-previous-rpc-attempts`), only what this side has refused is made again. With three attempts each, three tiers
    above one that fails make 7 calls of it, not 27.

    Args:
        balancer: picks the instance of each attempt.
        attempts: counts the first one; 1 means no retry. Default 3.
        timeout: seconds for the whole call, all attempts and pauses. A sooner deadline of the caller's wins. Default 1;
            None: the caller's alone.
        backoff: pause before the next attempt, full jitter. Default: up to 10 ms, doubling, at most 250 ms.
        idempotent: whether the call may safely happen twice. Default True; False: it is only made again where this side
            has refused it (`RefusedError`), so that no instance has seen it.
        hedge: after how long a second attempt is made on another instance, beside one that takes longer: seconds, or a
            percentile of the time that first attempts take, as `"p95"`. The first good answer wins; the other attempt
            is cancelled, which counts against nobody. Both are among `attempts`, and the second is paid for by
            `budget`. Default None: no hedging.
        sharing: whether attempts share the time that is left. Default: as `idempotent`. False for streams, which take
            as long as they take.
        retryable: for which errors another attempt may succeed. Default `is_retryable`.
        budget: bounds the retries of all calls together, to 20% of them by default, so that retries do not multiply
            the load of a service that fails as a whole. Default: a RetryBudget of its own; give several Retries to
            one service the same one.
        retried: told of each call that was made again, once it has ended: how many times. Default: nothing is.

    Raises:
        ValueError: a limit is senseless, or `hedge` is given for what must not happen twice.

    Calling it raises:
        RetryError: all attempts failed, or one failed for good, or the budget is spent; names each of the attempts,
            and has the last one's code.
    """

    def __init__(
        self,
        balancer: Balancer[Request, Response],
        *,
        attempts: int = 3,
        timeout: float | None = 1.0,
        backoff: Backoff | None = None,
        idempotent: bool = True,
        hedge: float | str | None = None,
        sharing: bool | None = None,
        retryable: Callable[[Exception], bool] = is_retryable,
        budget: RetryBudget | None = None,
        retried: Callable[[int], object] | None = None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"expected at least 1 attempt, got {attempts}")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"expected a timeout above 0 s, got {timeout:g}")
        if hedge is not None and not idempotent:
            raise ValueError("hedging makes calls twice: it is for idempotent ones")
        self._balancer = balancer
        self._attempts = attempts
        self._timeout = math.inf if timeout is None else timeout
        self._backoff = backoff or Backoff(base=0.01, cap=0.25)
        self._idempotent = idempotent
        self._sharing = idempotent if sharing is None else sharing
        self._hedging = None if hedge is None else Hedging(hedge)
        self._retryable = retryable
        self._budget = budget or RetryBudget()
        self._retried = retried

    async def __call__(self, request: Request) -> Response:
        """Make the call."""
        self._budget.deposit()
        now = asyncio.get_running_loop().time
        outer = deadline.remaining()
        end = now() + (self._timeout if outer is None else min(self._timeout, outer))
        call: _Call[Request, Response] = _Call(request, end)
        try:
            return await self._answer(call)
        finally:
            if self._retried is not None and (retries := call.begun - 1 - call.beside) > 0:
                self._retried(retries)

    async def _answer(self, call: _Call[Request, Response]) -> Response:
        now = asyncio.get_running_loop().time
        while True:
            try:
                endpoint = self._pick(call)
                if endpoint is None:
                    break
                return await self._attempts_from(endpoint, call)
            except Exception as error:
                pause = self._backoff.delay(call.begun)
                if status_of(error) is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    pause += PAUSE_AFTER_REFUSAL
                if reason := self._reason_to_stop(error, call, call.end - now() - pause):
                    raise RetryError(reason, call.failed) from error
            await asyncio.sleep(pause)
        raise RetryError("no other instance is left", call.failed) from call.failed[-1].error

    def _pick(self, call: _Call[Request, Response]) -> InstanceEndpoint[Request, Response] | None:
        """The endpoint of the next attempt; None: all have been tried, and would answer the same again.

        Raises:
            NoEndpointsError: there is none; it counts as an attempt.
        """
        if call.failed:
            try:
                return self._balancer.pick(exclude=call.instances)
            except NoEndpointsError:
                last = meaning_of(status_of(call.failed[-1].error))
                if last.elsewhere and not last.passes:
                    return None
                # Better one of them again than none.
        try:
            return self._balancer.pick()
        except NoEndpointsError as error:
            call.begun += 1
            call.failed.append(FailedAttempt(call.begun, "none", error, 0.0))
            raise

    async def _attempts_from(
        self, endpoint: InstanceEndpoint[Request, Response], call: _Call[Request, Response]
    ) -> Response:
        """Make an attempt, and where it takes long and hedging is on, one beside it."""
        attempt = self._attempt(endpoint, call)
        if self._hedging is None:
            return await attempt
        return await self._hedging.run(
            attempt, lambda: self._another(call), is_final=lambda error: not self._retryable(error)
        )

    def _another(self, call: _Call[Request, Response]) -> Coroutine[Any, Any, Response] | None:
        """An attempt beside the one under way; None where there may be none, or no instance is ready for it."""
        if call.begun >= self._attempts or call.again:
            return None
        try:
            endpoint = self._balancer.pick(exclude=call.instances)
        except NoEndpointsError:
            return None
        if not endpoint.ready or not self._budget.withdraw():
            return None
        call.beside += 1
        return self._attempt(endpoint, call)

    async def _attempt(self, endpoint: InstanceEndpoint[Request, Response], call: _Call[Request, Response]) -> Response:
        now = asyncio.get_running_loop().time
        start = now()
        call.begun += 1
        number = call.begun
        call.instances.append(endpoint.instance)
        remaining = call.end - start
        may_follow = self._attempts - number if self._sharing and not call.again else 0
        share = remaining / (may_follow + 1)
        token = current_attempt.set(Attempt(number, endpoint.instance))
        try:
            async with deadline.within(None if share == math.inf else share):
                answer = await endpoint(call.request)
        except Exception as error:
            call.failed.append(FailedAttempt(number, endpoint.instance, error, now() - start))
            call.tried.append((endpoint, error))
            raise
        finally:
            current_attempt.reset(token)
        for other, its_error in call.tried:
            if other is not endpoint:
                other.outdone(its_error)
        return answer

    def _reason_to_stop(self, error: Exception, call: _Call[Request, Response], remaining: float) -> str | None:
        number = call.begun
        if not self._retryable(error) or not (self._idempotent or isinstance(error, RefusedError)):
            return "not retried"
        if number >= self._attempts:
            return f"all {number} attempts failed" if number > 1 else "the only attempt failed"
        if call.again and not isinstance(error, RefusedError):
            return "left to the caller, which makes the call again itself"
        if remaining <= 0:
            return "deadline exceeded"
        # An attempt that was refused on this side has put no load on the service.
        if not isinstance(error, RefusedError) and not self._budget.withdraw():
            return "retry budget spent"
        return None


class _Call(Generic[Request, Response]):
    """How far a call has come.

    Args:
        request: what is sent.
        end: when it must be over, by the loop's clock.
    """

    def __init__(self, request: Request, end: float) -> None:
        self.request = request
        self.end = end
        # Made within a call that its caller makes again.
        self.again = caller.previous_attempts() > 0
        # Attempts, and those of them that were made beside others.
        self.begun = 0
        self.beside = 0
        self.instances: list[str] = []
        self.failed: list[FailedAttempt] = []
        self.tried: list[tuple[InstanceEndpoint[Request, Response], Exception]] = []
