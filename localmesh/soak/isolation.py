"""A network and a hosts file of the run's own, in which packets can be dropped and names can go: Linux, as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["Isolation", "isolate"]

INSIDE = "BOOKMESH_ISOLATED"
NEEDED = ("ip", "iptables", "mount", "unshare")
HOSTS = Path("/etc/hosts")


def isolate() -> str | None:
    """Continue in namespaces of this run's own: the process is replaced by a new one that starts there.

    Returns:
        None inside; else why it cannot be.
    """
    if os.environ.get(INSIDE) == "1":
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return None
    if sys.platform != "linux" or os.geteuid():
        return "that takes Linux and root"
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--net", "--mount", "iptables", "-L", "-n"], capture_output=True, check=False)
    if tried.returncode:
        return "this kernel gives no network namespace with iptables"
    os.environ[INSIDE] = "1"
    return os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, "-m", "localmesh", *sys.argv[1:]])


class Isolation:
    """What can be done to the network inside.

    Args:
        run_dir: for the hosts file.
        name: the one name that there is, for 127.0.0.1.
    """

    def __init__(self, run_dir: Path, name: str) -> None:
        self._hosts = run_dir / "hosts"
        self._name = name
        self.bring_names_back()
        subprocess.run(["mount", "--bind", self._hosts, HOSTS], check=True)

    def take_names_away(self) -> None:
        """No name can be looked up; the name servers of the machine cannot be reached from here anyway."""
        self._hosts.write_text("127.0.0.1 localhost\n")

    def bring_names_back(self) -> None:
        """The name can be looked up."""
        self._hosts.write_text(f"127.0.0.1 localhost {self._name}\n")

    def drop(self, port: int) -> None:
        """Let no packet to or from a port pass, as when the node is gone: nothing is refused, nothing acknowledged."""
        self._rules("-A", port)

    def let_pass(self, port: int) -> None:
        """Undo `drop`."""
        self._rules("-D", port)

    @staticmethod
    def _rules(change: str, port: int) -> None:
        for side in ("--dport", "--sport"):
            subprocess.run(["iptables", change, "INPUT", "-p", "tcp", side, str(port), "-j", "DROP"], check=True)
