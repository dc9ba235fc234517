"""The parts of a mesh on this machine, each a child process on a loopback port."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from localmesh.http import UnreachableError, answers, request, request_json
from localmesh.ports import free_port
from localmesh.process import Process
from localmesh.program import Program
from localmesh.waiting import NotYetError, until

__all__ = ["FAST", "BookClient", "BookServer", "EtcdCluster", "EtcdServer", "ZipkinServer"]

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
LOOPBACK = "127.0.0.1"
ETCD_WITHIN = 30.0
ZIPKIN_WITHIN = 120.0
PROGRAM_WITHIN = 30.0
# An id takes 33 characters of a request line, of which Zipkin's server takes 4,096.
IDS_A_REQUEST = 100
# A book-server without artificial delays, in answers and in leaving; a later flag overrides these.
FAST = ("--rate", "0", "--max-list-latency", "0", "--max-info-latency", "0", "--drain", "0s")
# The log is read here, so its format must not depend on the environment.
READABLE = ("--log-format", "json", "--log-level", "info")


class EtcdServer:
    """One etcd member with its data in `run_dir`; a restart keeps port and data.

    Args:
        run_dir: For its log and its data.
        port: To serve clients on; None takes a free one.
        name: Of the process, its log and its data.
        flags: Further flags of etcd.
        scheme: "https" where the flags give it certificates.
    """

    def __init__(
        self, run_dir: Path, *flags: str, port: int | None = None, name: str = "etcd", scheme: str = "http"
    ) -> None:
        self.name = name
        self.metrics = f"http://{LOOPBACK}:{free_port()}"
        self._flags = flags
        self._scheme = scheme
        self.port = port or free_port()
        self.peer_port = free_port()
        self.data = run_dir / f"{name}.data"
        self.address = f"{LOOPBACK}:{self.port}"
        self.cluster = f"{name}=http://{LOOPBACK}:{self.peer_port}"
        self._run_dir = run_dir
        self.process = self._process()

    def _process(self) -> Process:
        client, peer = f"{self._scheme}://{self.address}", f"http://{LOOPBACK}:{self.peer_port}"
        return Process(
            self.name,
            [
                *(TOOLS / "bin/etcd", "--name", self.name, "--data-dir", self.data, "--log-level", "warn"),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", self.cluster, "--listen-metrics-urls", self.metrics, *self._flags),
            ],
            run_dir=self._run_dir,
        )

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self.process = self._process()
        await self.process.start(answers(f"{self.metrics}/health"), within=ETCD_WITHIN)

    async def stop(self) -> None:
        """Stop it; its data stays."""
        await self.process.stop()

    def wipe(self) -> None:
        """Delete its data. Only while it is stopped."""
        shutil.rmtree(self.data, ignore_errors=True)

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop it."""
        await self.stop()


class EtcdCluster:
    """Three etcd members that form one cluster."""

    def __init__(self, run_dir: Path) -> None:
        self.members = [EtcdServer(run_dir, name=f"etcd{number}") for number in range(3)]
        cluster = ",".join(member.cluster for member in self.members)
        for member in self.members:
            member.cluster = cluster
        self.addresses = ",".join(member.address for member in self.members)

    async def __aenter__(self) -> Self:
        """Start all of them: none is healthy before a majority runs."""
        for member in self.members:
            member.process = member._process()  # noqa: SLF001 - its own class's sibling
            member.process.spawn()
        for member in self.members:
            await until(answers(f"{member.metrics}/health"), within=ETCD_WITHIN, what=f"{member.name} healthy")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop all of them."""
        for member in self.members:
            await member.stop()


class ZipkinServer:
    """Zipkin's server, with its store in memory.

    Args:
        run_dir: For its log.
        port: To serve on; None takes a free one.
    """

    def __init__(self, run_dir: Path, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.collector = f"{self.url}/api/v2/spans"
        self.process = Process(
            "zipkin",
            [
                *(TOOLS / "bin/java", "-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
                # It unpacks libraries there, and does not delete them when it is killed.
                f"-Djava.io.tmpdir={run_dir}",
                *("-XX:+ExitOnOutOfMemoryError", "-jar", TOOLS / "zipkin.jar"),
            ],
            run_dir=run_dir,
            # A span takes about 2 KB of heap: the default of 500,000 spans would need four times this heap.
            env={"QUERY_PORT": str(self.port), "STORAGE_TYPE": "mem", "MEM_MAX_SPANS": "60000"},
        )

    async def start(self) -> None:
        """Start it and wait until it serves; a few seconds."""
        await self.process.start(answers(f"{self.url}/health"), within=ZIPKIN_WITHIN)

    async def stop(self) -> None:
        """Stop it; all traces are lost."""
        await self.process.stop()

    async def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """The spans of one trace as Zipkin's API gives them (https://zipkin.io/zipkin-api/); [] while it has none."""
        status, answer = await request(f"{self.url}/api/v2/trace/{trace_id}", timeout=10)
        if status == 404:
            return []
        if status != 200:
            raise UnreachableError(f"{self.url} answered {status}: {answer[:200]!r}")
        spans: list[dict[str, Any]] = json.loads(answer)
        return spans

    async def traces(self, trace_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """The spans of several traces by their ids, as far as it has them."""
        found: dict[str, list[dict[str, Any]]] = {}
        if len(trace_ids) == 1:
            # Of a single one it wants to be asked in another way.
            found = {trace_ids[0]: await self.trace(trace_ids[0])}
        else:
            for start in range(0, len(trace_ids), IDS_A_REQUEST):
                chunk = ",".join(trace_ids[start : start + IDS_A_REQUEST])
                answer = await request_json(f"{self.url}/api/v2/traceMany?traceIds={chunk}", timeout=10)
                found |= {spans[0]["traceId"]: spans for spans in answer}
        return found

    async def wait_trace(self, trace_id: str, spans: int, *, within: float = 20.0) -> list[dict[str, Any]]:
        """The spans of one trace, as soon as there are at least `spans` of them."""

        async def probe() -> list[dict[str, Any]]:
            found = await self.trace(trace_id)
            if len(found) < spans:
                raise NotYetError(f"{len(found)} spans: {sorted(span.get('name', '?') for span in found)}")
            return found

        return await until(probe, within=within, what=f"{spans} spans of trace {trace_id}")

    async def counts(self) -> dict[str, int]:
        """What its collector says of itself: spans `taken` and spans `dropped`."""
        metrics = await request_json(f"{self.url}/metrics")
        counters = {"taken": "spans.http", "dropped": "spans_dropped.http"}
        return {name: int(metrics.get(f"counter.zipkin_collector.{key}", 0)) for name, key in counters.items()}

    def page(self, trace_id: str) -> str:
        """The address of a trace in Zipkin's web page."""
        return f"{self.url}/zipkin/traces/{trace_id}"

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop it."""
        await self.stop()


class BookServer(Program):
    """One replica of the book service.

    Args:
        run_dir: For its log.
        etcd: Address(es) of etcd.
        zipkin: The collector's URL, or "off".
        port: To serve on; None takes a free one.
        advertise: Where clients reach it, if not at its own address.
        env: Environment variables on top of this process's own.
        flags: Further flags of book-server, e.g. `"--rate", "0"`.
    """

    def __init__(
        self,
        run_dir: Path,
        *flags: str,
        etcd: str,
        zipkin: str = "off",
        port: int | None = None,
        advertise: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.address = f"{LOOPBACK}:{self.port}"
        super().__init__(
            f"book-server-{self.port}",
            [
                *(_script("book-server"), "--listen", self.address, "--advertise", advertise or self.address),
                *("--etcd", etcd, "--zipkin", zipkin, *READABLE, *flags),
            ],
            run_dir=run_dir,
            env=env,
        )

    async def start_ready(self) -> None:
        """Start it and wait until it is registered and healthy."""
        await self.start(self._ready, within=PROGRAM_WITHIN)

    async def _ready(self) -> None:
        if not self.events("ready"):
            raise NotYetError("not ready yet")

    async def __aenter__(self) -> Self:
        """Start it and wait until it is ready."""
        await self.start_ready()
        return self


class BookClient(Program):
    """A book client.

    Args:
        run_dir: For its log.
        etcd: Address(es) of etcd.
        zipkin: The collector's URL, or "off".
        name: Of the process and its log.
        env: Environment variables on top of this process's own.
        flags: Further flags of book-client, e.g. `"--calls", "10"`.
    """

    def __init__(
        self,
        run_dir: Path,
        *flags: str,
        etcd: str,
        zipkin: str = "off",
        name: str = "book-client",
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            name,
            [_script("book-client"), "--etcd", etcd, "--zipkin", zipkin, *READABLE, *flags],
            run_dir=run_dir,
            env=env,
        )

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The log lines of all calls so far."""
        return self.events("call")

    @property
    def summary(self) -> dict[str, Any]:
        """The summary that it has printed at its end."""
        return self.events("summary")[-1]


def _script(name: str) -> Path:
    return Path(sys.executable).with_name(name)
