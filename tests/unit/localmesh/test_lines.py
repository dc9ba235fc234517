import pytest

from localmesh.lines import entry_in, logged_at, seconds


@pytest.mark.parametrize("text", ["1970-01-01T00:00:01.25Z", "1970-01-01T00:00:01.250000000Z"])
def test_times_of_any_precision_are_read(text: str) -> None:
    assert seconds(text) == 1.25
    assert seconds("1970-01-01T01:00:01+01:00") == 1.0


@pytest.mark.parametrize("line", ["", "Traceback", "{cut off", "{}", '["event"]'])
def test_a_line_that_is_no_entry_is_none(line: str) -> None:
    assert entry_in(line) is None


def test_an_entry_tells_when_it_was_logged() -> None:
    entry = entry_in('{"event": "ready", "timestamp": "1970-01-01T00:00:02.500000Z"}')
    assert entry is not None
    assert logged_at(entry) == 2.5
