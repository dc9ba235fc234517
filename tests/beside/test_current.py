"""The toolkit's wheel beside current packages; `make beside` runs this, and the examples' tests on the same Python."""

import os
import subprocess
from pathlib import Path

PROGRAM = Path(__file__).with_name("program.py")


def test_rich_errors_arrive_and_the_official_exporter_takes_the_spans() -> None:
    answer = subprocess.run(
        [os.environ["EXAMPLES_PYTHON"], "-W", "error", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert "error INVALID_ARGUMENT name too short" in lines
    assert "health ['', 'helloworld.Greeter'] {1}" in lines
    assert "traces 1 spans 3" in lines
    assert lines[-1].startswith("protobuf ")
    # What the fixed packages cannot be with.
    assert int(lines[-1].split()[1].partition(".")[0]) >= 5
