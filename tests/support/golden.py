"""What users rely on, written down: the files in tests/golden, each compared with what the code does now.

`make golden` writes them again. A change of one is a change of a contract: say in the commit why it is needed.
"""

import difflib
import json
import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "golden"
RENEW = "GOLDEN"


def check_golden(name: str, found: object) -> None:
    """Compare what the code does with a golden file, to the order of the keys; fails with their difference.

    Args:
        name: Of the file, without its ending.
        found: What the code does, of what JSON can say.
    """
    path = FOLDER / f"{name}.json"
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if os.environ.get(RENEW) == "renew":
        path.write_text(text, encoding="utf-8")
    golden = path.read_text(encoding="utf-8") if path.exists() else ""
    if text != golden:
        lines = difflib.unified_diff(
            golden.splitlines(), text.splitlines(), f"tests/golden/{path.name}", "what the code does", lineterm="", n=6
        )
        pytest.fail(
            "\n".join(["a contract has changed; if that is meant, `make golden` writes it down:", *lines]),
            pytrace=False,
        )
