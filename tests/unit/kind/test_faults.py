"""The usual faults of a machine, each told in one line that says what to do."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.kind import faults
from deploy.kind.docker import Engine
from deploy.kind.errors import FaultError

ELSEWHERE = Engine(api=(1, 41), containerd_store=False, name="another machine", root="/var/lib/docker", memory=8 << 30)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def limits(folder: Path, instances: int, watches: int) -> Path:
    (folder / "max_user_instances").write_text(f"{instances}\n")
    (folder / "max_user_watches").write_text(f"{watches}\n")
    return folder


def test_limits_that_are_too_low_are_one_line_with_the_command_that_raises_them(tmp_path: Path) -> None:
    (warning,) = faults.look_at_this_machine(tmp_path, limits(tmp_path, 128, 8192))
    assert "max_user_instances is 128" in warning
    assert "max_user_watches is 8192" in warning
    assert "sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=65536" in warning
    assert "\n" not in warning


def test_high_limits_and_a_kernel_without_them_are_no_fault(tmp_path: Path) -> None:
    assert faults.look_at_this_machine(tmp_path, limits(tmp_path, 512, 65536)) == []
    assert faults.look_at_this_machine(tmp_path, tmp_path / "no such folder") == []


def test_too_little_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100 << 30, 99 << 30, 1 << 30))
    with pytest.raises(FaultError, match=r"too little disk: 1\.0 GiB free in .*docker system df"):
        faults.look_at_this_machine(tmp_path, tmp_path)


def test_too_little_memory_is_one_line() -> None:
    engine = Engine(api=(1, 41), containerd_store=False, name="another machine", root="", memory=1 << 30)
    with pytest.raises(FaultError, match=r"too little memory: Docker's machine has 1\.0 GiB"):
        faults.look_for_faults(engine, 0)


def test_a_port_that_is_taken_is_one_line_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(socket.socket, "bind", lambda *_: (_ for _ in ()).throw(OSError("Address already in use")))
    with pytest.raises(FaultError, match=r"9411 is taken on 127\.0\.0\.1: `make kind-up ZIPKIN_PORT=0`"):
        faults.look_for_faults(ELSEWHERE, 9411)
    assert faults.look_for_faults(ELSEWHERE, 0) == [], "any port will do"
    monkeypatch.setenv("DOCKER_HOST", "ssh://build.example")
    assert faults.look_for_faults(ELSEWHERE, 9411) == [], "the port is of another machine"


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("write /var/lib/docker/tmp/x: no space left on device", "docker system df"),
        ("Bind for 127.0.0.1:9411 failed: port is already allocated", "ZIPKIN_PORT=0"),
        ("listen tcp4 127.0.0.1:9411: bind: address already in use", "ZIPKIN_PORT=0"),
        ("failed to create fsnotify watcher: too many open files", "sysctl fs.inotify"),
        ("link: signal: killed", "memory"),
        ("fork/exec /usr/bin/runc: cannot allocate memory", "memory"),
        ("ctr: content digest sha256:aa1b: not found", "Docker 28"),
        ("toomanyrequests: You have reached your pull rate limit.", "docker login"),
        ("dial tcp: lookup registry-1.docker.io: Temporary failure in name resolution", "network"),
    ],
)
def test_a_usual_fault_is_recognized_in_what_a_command_said(said: str, advice: str) -> None:
    assert advice in (faults.explanation(f"Step 3/9\n{said}\nend") or "")


def test_what_is_no_usual_fault_is_not_explained() -> None:
    assert faults.explanation("SyntaxError: invalid syntax") is None
