"""Which faults a run has, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass

from localmesh.sick import AILMENTS

__all__ = ["STANDING", "Fault", "plan"]

# Replica 0 is never touched: its memory is measured, and one replica has to be healthy.
STANDING = 4
REPLICA_FAULTS = (
    *("kill", "freeze", "partition", "scale out", "scale in", "forgotten connections"),
    *(f"{ailment} from" for ailment in AILMENTS),
)
BACKEND_FAULTS = ("etcd restart", "etcd partition", "etcd freeze", "etcd's connections forgotten", "Zipkin restart")
# Only where the run has a network of its own.
ISOLATED_REPLICA_FAULTS = ("node of",)
ISOLATED_BACKEND_FAULTS = ("etcd's name away",)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done `at` seconds from the start, and undone `hold` seconds later."""

    at: float
    kind: str
    replica: int
    hold: float

    @property
    def on_replica(self) -> bool:
        """Whether a replica is in trouble, rather than etcd or Zipkin."""
        return self.kind in REPLICA_FAULTS + ISOLATED_REPLICA_FAULTS

    def __str__(self) -> str:
        """Say it in words."""
        what = f"{self.kind} replica {self.replica}" if self.on_replica else self.kind
        return f"{what} for {self.hold:.1f} s"


def plan(seed: int, seconds: float, *, isolated: bool = False) -> list[Fault]:
    """The faults of a run; the same for the same seed, in a network of its own or not.

    At most one replica and one of etcd and Zipkin are in trouble at a time, and two replicas at least are not: with
    three attempts no call may fail.
    """
    rng = random.Random(seed)
    faults = []
    for kinds in (
        REPLICA_FAULTS + (ISOLATED_REPLICA_FAULTS if isolated else ()),
        BACKEND_FAULTS + (ISOLATED_BACKEND_FAULTS if isolated else ()),
    ):
        at = rng.uniform(1, 4)
        while (hold := rng.uniform(1, 8)) + at < seconds:
            faults.append(Fault(at, rng.choice(kinds), rng.randrange(1, STANDING), hold))
            # What has been undone gets some time to recover, not always enough.
            at += hold + rng.uniform(2, 8)
    return sorted(faults, key=lambda fault: fault.at)
