"""The scenario that made Linkerd's case against round robin in 2016, simulated on a clock that jumps."""

import pytest

from benchmarks.balance import SEED, refused_share, simulated_success


# Published: 95%, 99%, 99.9%.
@pytest.mark.parametrize(
    ("balancer", "least", "most"), [("RoundRobin", 0.94, 0.97), ("LeastRequest", 0.985, 1), ("PeakEwma", 0.999, 1)]
)
def test_linkerd_s_scenario_of_2016(balancer: str, least: float, most: float) -> None:
    share = simulated_success(balancer)
    print(f"{balancer}: {share:.2%}, seed {SEED}")
    assert least <= share <= most


def test_a_replica_that_refuses_most_of_its_calls_gets_no_larger_share_by_its_quick_answers() -> None:
    share, refusing = refused_share("PeakEwma")
    print(f"PeakEwma: {share:.1%} of the calls, {refusing:.1%} once it refuses; seed {SEED}")
    assert refusing < share / 2
    share, refusing = refused_share("LeastRequest")
    assert refusing > share
