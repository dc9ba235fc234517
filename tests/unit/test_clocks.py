"""The wall clock may be set at any moment: no duration, no deadline and no pause is taken from it."""

import re
from pathlib import Path

import meshkit

ROOT = Path(meshkit.__file__).parent
WALL_CLOCK = re.compile(r"\btime\.(time|time_ns|localtime|gmtime)\(|datetime\.(now|utcnow|today)\(")
# When a span begins, when an exemplar was taken, and whether a certificate is valid yet: matters of the wall clock.
BY_THE_WALL_CLOCK = {
    "meshkit/clock.py": 1,
    "meshkit/metrics/histogram.py": 1,
    "meshkit/tls/pem.py": 2,
    "meshkit/tracing/tracer.py": 1,
}


def test_the_wall_clock_is_asked_where_it_is_meant_and_nowhere_else() -> None:
    sources = [*ROOT.rglob("*.py"), *(ROOT.parent / "services").rglob("*.py")]
    asked = {
        path.relative_to(ROOT.parent).as_posix(): len(WALL_CLOCK.findall(path.read_text(encoding="utf-8")))
        for path in sources
    }
    assert {name: times for name, times in asked.items() if times} == BY_THE_WALL_CLOCK
