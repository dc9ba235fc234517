from pathlib import Path

from localmesh.process import Process


async def test_to_stop_what_was_never_started_is_to_do_nothing(tmp_path: Path) -> None:
    process = Process("never", ["no-such-program"], run_dir=tmp_path)
    assert await process.stop() == 0
    assert await process.kill() == 0
    assert not process.running
    assert not process.log.exists()
