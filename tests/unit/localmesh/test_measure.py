import math
import os
from pathlib import Path

import pytest

from localmesh.measure import cpu_seconds, percentile, resident_mb


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (1, 1), (50, 5), (90, 9), (99, 10), (100, 10)])
def test_a_percentile_is_the_nearest_ranks_value(percent: float, value: float) -> None:
    assert percentile([7, 3, 1, 10, 2, 9, 4, 8, 6, 5], percent) == value
    assert math.isnan(percentile([], percent))


def test_this_process_has_used_time_and_memory() -> None:
    if not Path("/proc/self").is_dir():
        pytest.skip("needs Linux's /proc")
    assert cpu_seconds(os.getpid()) > 0
    assert resident_mb() > 1
