"""What a run has cost: percentiles of times, and a process's processor time and memory."""

import math
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["cpu_seconds", "percentile", "resident_mb"]


def percentile(values: Iterable[float], percent: float) -> float:
    """The nearest rank's value; NaN where there is none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)] if ranked else math.nan


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used (Linux), to within 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int | str = "self") -> float:
    """Resident memory of a process, in MB (Linux).

    Raises:
        OSError: There is no such process, or it has ended.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"no VmRSS of process {pid}")
