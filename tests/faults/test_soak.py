"""A short soak, so that the long one (`make soak`) is known to work; its faults and its audit are the same."""

import asyncio
import re
import sys
from collections.abc import Callable

SEED = 7


async def test_a_third_of_a_minute_of_random_faults_loses_no_call(figure: Callable[[str], None]) -> None:
    command = (sys.executable, "-m", "localmesh", "soak", "--seed", str(SEED), "--minutes", "0.34")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(180):
        output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    assert f"make soak SEED={SEED}" in output
    found = re.search(r"^calls +(\d+), 0 lost from the ledger", output, re.MULTILINE)
    assert found, output
    assert int(found[1]) > 100
    figure(f"{found[1]} calls under {output.count(' for ')} faults, none lost, none failed")
