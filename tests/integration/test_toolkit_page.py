"""The code in docs/toolkit.md, run as it stands, except for where etcd and Zipkin listen."""

import re
import sys
import textwrap
from pathlib import Path

import trustme

from localmesh.components import EtcdServer, ZipkinServer
from localmesh.ports import free_port
from localmesh.process import Process

PAGE = Path(__file__).parents[2] / "docs" / "toolkit.md"


def code() -> str:
    """All of it, in one coroutine, where `await` may stand."""
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    body = textwrap.indent("\n".join(snippets), "    ")
    return f"import asyncio\n\n\nasync def main():\n{body}\n\nasyncio.run(main())\n"


async def test_the_code_of_the_toolkit_page_runs_from_top_to_bottom(
    run_dir: Path, etcd: EtcdServer, zipkin: ZipkinServer
) -> None:
    authority = trustme.CA()
    client = authority.issue_cert("client")
    authority.cert_pem.write_to_path(str(run_dir / "ca.pem"))
    client.cert_chain_pems[0].write_to_path(str(run_dir / "client.pem"))
    client.private_key_pem.write_to_path(str(run_dir / "client-key.pem"))
    text = code().replace("127.0.0.1:2379", etcd.address).replace("http://127.0.0.1:9411", zipkin.url)
    text = text.replace("127.0.0.1:6001", f"127.0.0.1:{free_port()}")
    for name in ("ca.pem", "client.pem", "client-key.pem"):
        text = text.replace(f'"{name}"', repr(str(run_dir / name)))
    script = run_dir / "toolkit.py"
    script.write_text(text)
    program = Process("toolkit", [sys.executable, script], run_dir=run_dir)
    async with program:
        assert await program.wait() == 0, program.output()
    printed = program.output()
    for expected in (
        "Hello mesh\n",
        "Hello world\n",
        "1.5 s are left",
        "listening on port",
        "frozenset({'10.0.0.1:6001'})",
        "rain",
    ):
        assert expected in printed
    assert re.search(r"Hello world [0-9a-f]{32}\n", printed)
    assert "90.0 seconds; going on" in printed
    assert "StatusCode.UNAVAILABLE" in printed


def test_each_folder_of_meshkit_is_on_the_page() -> None:
    folders = {file.parent.name for file in (PAGE.parents[1] / "meshkit").glob("*/__init__.py")}
    assert folders <= set(re.findall(r"meshkit\.(\w+)", PAGE.read_text()))
