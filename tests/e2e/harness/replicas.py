"""A server replica's life as Kubernetes, etcd and the client's log tell of it, side by side."""

from collections.abc import Iterable
from dataclasses import dataclass

from localmesh.calls import Call

__all__ = ["Replica", "early_arrivals", "late_arrivals", "untimely_departures"]

# Sleeping goes by another clock than the log's times, which are rounded as well.
CLOCK = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Times in seconds since 1970; None: it has not happened.

    `registered` and `deregistered` are when etcd had answered the replica, by its own log; `key_gone` is when etcdctl
    told of the key's end, which on a busy machine is late.
    """

    instance: str
    pod: str
    node: str
    ready: float | None
    registered: float | None
    first_call: float | None
    last_call: float | None
    leaving: float | None
    key_gone: float | None
    deregistered: float | None
    stopped: float | None
    exit_codes: tuple[int, ...] = ()
    calls: int = 0

    @property
    def ready_to_first_call(self) -> float | None:
        """Seconds from Ready to the first call; 0 where calls came before the kubelet had seen that it is ready."""
        if self.ready is None or self.first_call is None:
            return None
        return max(0.0, self.first_call - self.ready)


def late_arrivals(replicas: Iterable[Replica], *, within: float) -> list[str]:
    """Which replicas got their first call later than `within` seconds after they were Ready, or none."""
    late = []
    for replica in replicas:
        waited = replica.ready_to_first_call
        if replica.ready is not None and (waited is None or waited > within):
            late.append(f"{replica.pod} ({replica.instance}): first call {_after(waited)} Ready")
    return late


def early_arrivals(replicas: Iterable[Replica]) -> list[str]:
    """Which replicas were Ready before they were registered."""
    return [
        f"{replica.pod} ({replica.instance}): registered {_after(_difference(replica.registered, replica.ready))} Ready"
        for replica in replicas
        if replica.ready is not None and (replica.registered is None or replica.registered > replica.ready)
    ]


def untimely_departures(replicas: Iterable[Replica], *, drain: float, slack: float = 2.0) -> list[str]:
    """What is wrong with the way in which replicas left that were told to.

    The key goes first; the last call begins within `drain` seconds of that; the server stops no sooner than that; it
    exits with 0. `slack` seconds for the news of the key to get here: a check that the replica's log speaks the truth.
    """
    wrong = []
    for replica in replicas:
        who = f"{replica.pod} ({replica.instance})"
        gone = replica.deregistered
        if replica.key_gone is None:
            wrong.append(f"{who}: its key is still there")
        if gone is None:
            wrong.append(f"{who}: its log does not say that its key is gone")
            continue
        if replica.key_gone is not None and replica.key_gone > gone + slack:
            wrong.append(f"{who}: its key went {_after(replica.key_gone - gone)} its log says so")
        if replica.last_call is not None and replica.last_call > gone + drain:
            wrong.append(f"{who}: last call {_after(replica.last_call - gone)} its key's end")
        if replica.stopped is None:
            wrong.append(f"{who}: its log does not say that it has stopped")
        elif replica.stopped < gone + drain - CLOCK:
            wrong.append(f"{who}: stopped {_after(replica.stopped - gone)} its key's end, not {drain:g} s")
        if any(replica.exit_codes):
            wrong.append(f"{who}: exit status {replica.exit_codes}")
    return wrong


def calls_to(calls: Iterable[Call], instance: str) -> list[Call]:
    """The calls that an instance has answered, by their start."""
    return sorted((call for call in calls if call.instance == instance and call.ok), key=lambda call: call.start)


def _difference(later: float | None, earlier: float) -> float | None:
    return None if later is None else later - earlier


def _after(seconds: float | None) -> str:
    if seconds is None:
        return "never after"
    return f"{seconds:.2f} s after" if seconds >= 0 else f"{-seconds:.2f} s before"
