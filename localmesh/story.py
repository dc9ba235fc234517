"""A story in five acts on a mesh that runs: each told in a line, and at the end a verdict on every call."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from localmesh.calls import Call, calls_in, missing_numbers
from localmesh.components import BookClient, ZipkinServer
from localmesh.controls import ActionError
from localmesh.http import UnreachableError
from localmesh.lines import logged_at
from localmesh.measure import percentile
from localmesh.oracle import Excuse, Verdict, judge, problems
from localmesh.waiting import Wait
from localmesh.waterfall import waterfall

__all__ = ["CLIENT_FLAGS", "LEAST_REPLICAS", "SERVER_FLAGS", "Story"]

# Besides the one that falls sick and the one that dies, one has to be well.
LEAST_REPLICAS = 3
SERVER_FLAGS = ("--rate", "0", "--max-list-latency", "40ms", "--lease-ttl", "5", "--drain", "0.5s", "--faults")
CLIENT_FLAGS = ("--calls", "0", "--interval", "40ms", "--concurrency", "2")
# A killed process takes with it the spans of its last batch: half a second, and the time to send it.
UNSENT = 1.5
# Seconds until a replica that was healed is back, a call under way has ended, and the last span is in Zipkin.
BACK_WITHIN, ENDED_WITHIN, SPANS_WITHIN = 20.0, 15.0, 30.0

Act = Callable[[str, Mapping[str, Any]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class _Scene:
    """One act: what happens, what to look at, and what is done: actions with their bodies."""

    title: str
    look: str
    does: Sequence[tuple[str, Mapping[str, Any]]] = ()
    # Of the client's log, told with its time.
    event: str | None = None


class Story:
    """The five acts, and what they made of the calls.

    Args:
        client: Calls without end.
        zipkin: Has the spans.
        replicas: Addresses of at least three.
        act: Does an action (sicken, kill, heal, etcd-stop, etcd-start, more), as a button of the page does.
        console: To tell it.
        seconds: Of each act.
    """

    def __init__(
        self,
        client: BookClient,
        zipkin: ZipkinServer,
        replicas: Sequence[str],
        *,
        act: Act,
        console: Console,
        seconds: float,
    ) -> None:
        self._client = client
        self._zipkin = zipkin
        self._act = act
        self._console = console
        self._seconds = seconds
        self._first, self._sick, self._dead, *_ = replicas
        self._excuses: list[Excuse] = []
        self._troubles: list[str] = []
        self._traces: dict[str, list[dict[str, Any]]] = {}

    async def tell(self) -> bool:
        """Tell all of it; whether every call succeeded and has a whole trace."""
        scenes = self._scenes()
        for number, scene in enumerate(scenes, 1):
            await self._play(number, len(scenes), scene)
        calls = await self._ended_calls()
        verdict = await self._verdict(calls)
        self._show_a_call_made_again(calls)
        return self._judge(calls, verdict)

    def _scenes(self) -> list[_Scene]:
        sick, dead = {"instance": self._sick}, {"instance": self._dead}
        return [
            _Scene("calm", "each replica gets its share of the calls"),
            _Scene(
                f"{self._sick} falls sick, and answers UNAVAILABLE",
                "it is ejected; the calls that met it are made again elsewhere, and others go to the rest",
                [("sicken", {**sick, "percent": 100, "status": "UNAVAILABLE"})],
                "instance ejected",
            ),
            _Scene(
                f"{self._dead} dies, as by a crash",
                "calls that it had are made again; its registration ends with its lease",
                [("kill", dead)],
            ),
            _Scene("etcd goes", f"calls go on, to the one that is left: {self._first}", [("etcd-stop", {})]),
            _Scene(
                "everything comes back",
                "each replica gets its share again",
                [("heal", sick), ("etcd-start", {}), ("more", {})],
                "instance back",
            ),
        ]

    async def _play(self, number: int, of: int, scene: _Scene) -> None:
        self._console.print(f"\n[bold]act {number} of {of}: {scene.title}[/bold]\n  look: {scene.look}")
        began = time.time()
        for name, body in scene.does:
            try:
                await self._act(name, body)
            except ActionError as error:
                self._troubles.append(f"{name}: {error}")
            if name == "kill":
                self._excuses.append(Excuse(self._dead, began - UNSENT, time.time() + 1))
        if number == of:
            await self._wait_until_all_are_back(began)
        await asyncio.sleep(max(0.0, began + self._seconds - time.time()))
        self._tell_the_calls(began, scene)

    async def _wait_until_all_are_back(self, since: float) -> None:
        """All three answer calls that began since then, and the one that was sick is no longer ejected."""
        wait = Wait("all replicas answer again", BACK_WITHIN, every=0.2)
        everyone = {self._first, self._sick, self._dead}
        try:
            while True:
                missing = everyone - {call.instance for call in self._calls() if call.ok and call.start > since}
                ejected = len(self._client.events("instance ejected")) > len(self._client.events("instance back"))
                if not missing and not ejected:
                    break
                seen = f"no call was answered by {', '.join(sorted(missing))}" if missing else "one is still ejected"
                wait.not_yet(seen)
                await asyncio.sleep(wait.every)
        except TimeoutError as error:
            self._troubles.append(str(error))

    async def _ended_calls(self) -> list[Call]:
        """All calls up to the last one by now, once each has an outcome."""
        calls = self._calls()
        last = max((call.number for call in calls), default=0)
        wait = Wait(f"an outcome of calls 1 to {last}", ENDED_WITHIN, every=0.2)
        try:
            while missing := [number for number in missing_numbers(calls) if number <= last]:
                wait.not_yet(f"none of {missing[:10]}")
                await asyncio.sleep(wait.every)
                calls = self._calls()
        except TimeoutError as error:
            self._troubles.append(str(error))
        return [call for call in calls if call.number <= last]

    def _calls(self) -> list[Call]:
        return calls_in(self._client.output().splitlines(), "the client", "127.0.0.1")

    def _tell_the_calls(self, since: float, scene: _Scene) -> None:
        calls = [call for call in self._calls() if call.end > since]
        failed, again = sum(not call.ok for call in calls), sum(call.attempts > 1 for call in calls)
        line = f"{len(calls)} calls, {failed} failed, {again} made again"
        if calls:
            line += ", p50 {:.0f} ms, p99 {:.0f} ms".format(
                *(1000 * percentile((call.duration for call in calls), p) for p in (50, 99))
            )
        if scene.event:
            entries = [entry for entry in self._client.events(scene.event) if logged_at(entry) > since]
            line += f"; {scene.event} " + (f"after {logged_at(entries[0]) - since:.1f} s" if entries else "not seen")
        self._console.print(f"  {line}", style="red" if failed else "green", markup=False)

    async def _verdict(self, calls: Sequence[Call]) -> Verdict:
        """Read every call's trace, those again that are not whole yet, and judge all of them."""
        traces = self._traces
        deadline = time.monotonic() + SPANS_WITHIN
        pending = list(calls)
        with self._console.status("reading every trace back from Zipkin"):
            while pending and time.monotonic() < deadline:
                try:
                    traces |= await self._zipkin.traces([call.trace_id for call in pending])
                except UnreachableError as error:
                    self._troubles.append(str(error))
                    break
                pending = [call for call in pending if problems(call, traces.get(call.trace_id, ()), self._excuses)]
                if pending:
                    await asyncio.sleep(0.5)
        return judge(calls, traces, self._excuses)

    def _show_a_call_made_again(self, calls: Sequence[Call]) -> None:
        again = [call for call in calls if call.ok and call.attempts > 1 and self._traces.get(call.trace_id)]
        if not again:
            self._troubles.append("no call was made again: nothing was seen of the sick replica")
            return
        call = again[0]
        self._console.print(f"\nCall {call.number} met the sick replica, and was made again:")
        self._console.print(waterfall(self._traces[call.trace_id], self._console.width))
        self._console.print(f"in Zipkin: {self._zipkin.page(call.trace_id)}")

    def _judge(self, calls: Sequence[Call], verdict: Verdict) -> bool:
        troubles = self._troubles
        troubles += [f"{call} failed: {call.error[:400]}" for call in calls if not call.ok][:5]
        troubles += [str(broken) for broken in verdict.broken[:5]]
        if not self._client.running:
            troubles.append(str(self._client.ended_error()))
        again = sum(call.attempts > 1 for call in calls)
        failed = sum(not call.ok for call in calls)
        self._console.print(f"\n[bold]verdict[/bold]: {len(calls)} calls, {failed} failed, {again} made again")
        self._console.print(
            f"  {verdict.whole} traces are whole, {len(verdict.broken)} are broken, {verdict.spans} spans"
        )
        if verdict.excused:
            self._console.print(f"  {verdict.excused} lack only what the replica that died had not sent yet")
        for trouble in troubles:
            self._console.print(trouble, style="red", markup=False)
        return not troubles and bool(calls)
