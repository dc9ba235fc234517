"""One release of the chart in a namespace of its own, and everything that is seen of it."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, cast

import yaml
from kubernetes import client

from localmesh.calls import Call, Pick, calls_in, entries_in, missing_numbers, picks_in, summaries_in
from localmesh.lines import logged_at
from localmesh.oracle import Excuse, Verdict
from tests.e2e.harness.cluster import ROOT, Cluster, CommandError
from tests.e2e.harness.podlogs import LogReader
from tests.e2e.harness.pods import PodLife, Pods
from tests.e2e.harness.record import Kind, Mark, Record
from tests.e2e.harness.registry import Registry
from tests.e2e.harness.replicas import Replica, calls_to
from tests.e2e.harness.slowness import Slowness
from tests.e2e.harness.waiting import NotYetError, until
from tests.e2e.harness.zipkin import ZipkinReader

__all__ = ["CONCURRENCY", "LEASE_TTL", "Mesh"]

CHART = ROOT / "deploy/helm/bookmesh"
LEASE_TTL = 5
CONCURRENCY = 4
# Several calls at a time, some tens a second, and a rate limit out of their way. An attempt gets a third of the time:
# on a machine that stands still for some seconds it must not be too slow, and so rightly retried.
VALUES: Mapping[str, Any] = {
    "server": {"replicas": 3, "rate": 1000, "burst": 1000, "leaseTtl": LEASE_TTL},
    "client": {
        "replicas": 1,
        "concurrency": CONCURRENCY,
        "interval": "60ms",
        "timeout": "45s",
        "breaker": {"timeout": "45s"},
        "terminationGracePeriodSeconds": 55,
    },
}
READY_WITHIN = 120.0
INSTALL_WITHIN = 60.0


class Mesh:
    """The release `mesh` and its observers.

    Environment variables: BOOKMESH_E2E_TAG, of both programs' images; BOOKMESH_E2E_TLS, to have mutual TLS on;
    BOOKMESH_E2E_VALUES, a file of chart values that win over the tests' own.
    """

    release = "mesh"
    fullname = "mesh-bookmesh"

    def __init__(self, cluster: Cluster, namespace: str, record: Record) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.record = record
        # Zipkin is read through the API server, whose address is that of a node.
        sources = [{"ipBlock": {"cidr": f"{address}/32"}} for address in cluster.node_addresses()]
        self.values: dict[str, Any] = _merged(VALUES, {"networkPolicy": {"zipkinFrom": sources}})
        if tag := os.environ.get("BOOKMESH_E2E_TAG"):
            self.values = _merged(self.values, {"server": {"image": {"tag": tag}}, "client": {"image": {"tag": tag}}})
        if os.environ.get("BOOKMESH_E2E_TLS"):
            self.values = _merged(self.values, {"tls": {"enabled": True}})
        self.pods = Pods(cluster, namespace)
        self._infra = self.fullname
        self.warnings: list[str] = []
        self._registry: Registry | None = None
        # Clients that belong to no Deployment.
        self._alone: list[str] = []
        self._slowness = Slowness()
        self._began = time.time()
        self._parsed: dict[str, tuple[int, list[Call]]] = {}

    @cached_property
    def zipkin(self) -> ZipkinReader:
        """The Zipkin that the release sends its spans to."""
        return ZipkinReader(self.cluster, self.namespace, f"{self._infra}-zipkin")

    @property
    def prefix(self) -> str:
        """Where in etcd the replicas register, by the chart's default."""
        return f"/services/{self.namespace}/{self.release}/book/"

    @property
    def registry(self) -> Registry:
        """What etcd holds; followed since the release's etcd was ready."""
        assert self._registry is not None, "not installed yet"
        return self._registry

    @property
    def drain(self) -> float:
        """The chart's drain, in seconds."""
        return float(
            json.loads(self.helm("get", "values", self.release, "--all", "-o", "json"))["server"]["drainSeconds"]
        )

    def helm(self, *args: str, stdin: str | None = None, within: float = 120) -> str:
        """What helm prints; its warnings are kept."""
        done = self.cluster.run("helm", "-n", self.namespace, *args, stdin=stdin, within=within)
        self.warnings += [line for line in done.stderr.splitlines() if line.strip()]
        return done.stdout

    def apply(self, **changes: Mapping[str, Any]) -> None:
        """`helm upgrade --install` with these values on top of those so far."""
        self.values = _merged(self.values, changes)
        files = ["-f", "-"]
        if extra := os.environ.get("BOOKMESH_E2E_VALUES"):
            files += ["-f", extra]
        self.helm("upgrade", "--install", self.release, str(CHART), *files, stdin=json.dumps(self.values))

    def upgraded(self, **changes: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        """What an upgrade with these values would apply, by kind and name; it is not done."""
        values = json.dumps(_merged(self.values, changes))
        flags = ("--dry-run=server", "-o", "json", "-f", "-")
        release = json.loads(self.helm("upgrade", self.release, str(CHART), *flags, stdin=values))
        manifests = [found for found in yaml.safe_load_all(release["manifest"]) if found]
        return {(found["kind"], found["metadata"]["name"]): found for found in manifests}

    def install(self, *, replicas: int = 3, traffic: bool = True, **values: Mapping[str, Any]) -> None:
        """Install it, with these values too, and wait until all of it is ready; then start the calls.

        A client that was there before the first server would have nobody to call, so it comes when they are ready.
        """
        began = time.time()
        self.values = _merged(self.values, values)
        self.apply(server={"replicas": replicas}, client={"replicas": 0})
        self.wait_ready("etcd", self.values.get("etcd", {}).get("replicas", 1))
        if self._registry is None:
            self.follow_registry()
        self.wait_ready("zipkin", 1)
        self.wait_ready("server", replicas)
        took = time.time() - began
        self.record.figure("install to all Ready", f"{took:.1f} s", f"{INSTALL_WITHIN:g} s")
        assert took <= self.bound(INSTALL_WITHIN)
        if traffic:
            self.start_traffic()

    def install_infra(self, release: str, **values: Mapping[str, Any]) -> None:
        """Install a release that is but an etcd and a Zipkin, for this one to use instead of its own."""
        self._infra = f"{release}-bookmesh"
        ours = [{"podSelector": {"matchLabels": {"app.kubernetes.io/instance": self.release}}}]
        sources = self.values["networkPolicy"]["zipkinFrom"]
        infra: dict[str, Any] = {
            "server": {"replicas": 0},
            "client": {"mode": "off"},
            "networkPolicy": {"etcdFrom": ours, "zipkinFrom": [*ours, *sources]},
        }
        self.helm("upgrade", "--install", release, str(CHART), "-f", "-", stdin=json.dumps(_merged(infra, values)))
        self.wait_ready("etcd", 1)
        self.follow_registry()
        self.wait_ready("zipkin", 1)

    def follow_registry(self) -> None:
        """Follow etcd's keys from now on."""
        self._registry = Registry(self.cluster, self.namespace, f"{self._infra}-etcd-0", self.prefix)

    def start_traffic(self) -> None:
        """Start the client, and wait for its first calls."""
        self._scale_client(1)
        self.wait_calls(20)

    def stop_traffic(self) -> list[Call]:
        """Stop the client; returns every call that it has made, and makes sure that no line of its log is missing."""
        self._scale_client(0)
        while self._alone:
            self.cluster.core.delete_namespaced_pod(self._alone.pop(), self.namespace)
        readers = self._client_logs()
        for reader in readers:
            until(partial(_ended, reader), within=60, what=f"the end of {reader.pod}'s log")
        for reader in readers:
            calls = [call for call in self.calls() if call.client == reader.pod]
            (summary,) = summaries_in(reader.texts)
            assert missing_numbers(calls) == [], f"{reader.pod}: calls without a line in its log"
            assert (len(calls), sum(not call.ok for call in calls)) == (summary["calls"], summary["failures"])
        self.record.calls = self.calls()
        return self.calls()

    def start_slow_client(self, *, interval: int) -> None:
        """Start a second client, which makes one call in so many seconds."""
        change = {"BOOK_CLIENT_INTERVAL": f"{interval}s", "BOOK_CLIENT_CONCURRENCY": "1"}
        self._start_alone("client", "slow-client", change)
        self._alone.append("slow-client")

    def start_sick_server(self, customize: str) -> PodLife:
        """Start one more server, whose Python runs `customize` first; returns it once it is Ready."""
        count = len(self.living("server")) + 1
        content = client.V1ConfigMap(
            metadata=client.V1ObjectMeta(name="sick-server"), data={"sitecustomize.py": customize}
        )
        self.cluster.core.create_namespaced_config_map(self.namespace, content)
        volume = {"name": "sick", "configMap": {"name": "sick-server"}}
        self._start_alone("server", "sick-server", {"PYTHONPATH": "/sick"}, volume)
        pods = self.wait_ready("server", count)
        return next(pod for pod in pods if pod.name == "sick-server")

    def _start_alone(
        self, component: str, name: str, variables: Mapping[str, str], volume: Mapping[str, Any] | None = None
    ) -> None:
        """A pod like those of a Deployment, but for some variables and a volume, that no Deployment replaces."""
        deployment = self.cluster.json(
            f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.fullname}-{component}"
        )
        pod = deployment["spec"]["template"]
        pod["metadata"]["name"] = name
        (container,) = pod["spec"]["containers"]
        kept = [found for found in container.get("env", []) if found["name"] not in variables]
        container["env"] = [*kept, *({"name": key, "value": value} for key, value in variables.items())]
        if volume is not None:
            mount = {"name": volume["name"], "mountPath": f"/{volume['name']}", "readOnly": True}
            container["volumeMounts"] = [*container.get("volumeMounts", []), mount]
            pod["spec"]["volumes"] = [*pod["spec"].get("volumes", []), volume]
        # The client's type asks for a model; it sends what it is given.
        self.cluster.core.create_namespaced_pod(self.namespace, cast(Any, pod))

    def _scale_client(self, replicas: int) -> None:
        """Scale it past Helm, which would take seconds; the values know, so that a later upgrade leaves it so."""
        self.values = _merged(self.values, {"client": {"replicas": replicas}})
        scale = {"spec": {"replicas": replicas}}
        self.cluster.apps.patch_namespaced_deployment_scale(f"{self.fullname}-client", self.namespace, scale)

    def calls(self) -> list[Call]:
        """All calls that have ended so far."""
        calls: list[Call] = []
        for pod in self.pods.of("client"):
            for reader in self.pods.logs_of(pod):
                seen, parsed = self._parsed.get(reader.pod, (0, []))
                texts = reader.texts
                parsed += calls_in(texts[seen:], reader.pod, pod.ip)
                self._parsed[reader.pod] = (len(texts), parsed)
                calls += parsed
        return calls

    def picks(self) -> list[Pick]:
        """All choices of the balancer so far, in order."""
        return [pick for reader in self._client_logs() for pick in picks_in(reader.texts)]

    def wait_calls(self, more: int, *, within: float = 60.0) -> None:
        """Wait until so many more calls have ended."""
        goal = len(self.calls()) + more

        def probe() -> None:
            if (seen := len(self.calls())) < goal:
                last = [reader.texts[-1:] for reader in self._client_logs()]
                raise NotYetError(f"{seen} calls, the client's last line: {last}")

        until(probe, within=within, what=f"{more} more calls")

    def let_flow(self, seconds_: float) -> None:
        """Watch the calls for a while: time in which nothing happens is what some tests are about."""
        time.sleep(seconds_)

    def living(self, component: str) -> list[PodLife]:
        """The pods that are there to stay."""
        return [pod for pod in self.pods.of(component) if pod.living]

    def wait_ready(self, component: str, count: int, *, within: float = READY_WITHIN) -> list[PodLife]:
        """Wait until a component has exactly so many pods, all of them Ready."""

        def probe() -> list[PodLife]:
            pods = self.living(component)
            if len(pods) != count or not all(pod.is_ready for pod in pods):
                raise NotYetError(", ".join(f"{pod.name} {_state(pod)}" for pod in pods) or "no pod")
            return pods

        return until(probe, within=within, what=f"{count} Ready pods of {component}")

    def wait_gone(self, component: str, *, within: float = 60.0) -> None:
        """Wait until no pod of a component is on its way out any more."""

        def probe() -> None:
            if pods := [pod.name for pod in self.pods.of(component) if pod.leaving and not pod.gone]:
                raise NotYetError(f"still there: {', '.join(pods)}")

        until(probe, within=within, what=f"the end of {component} pods that leave")

    def wait_end(self, pod: PodLife, *, within: float = 60.0) -> None:
        """Wait until a pod that was told to go is gone."""

        def probe() -> None:
            if not pod.gone:
                raise NotYetError(f"{pod.name} {_state(pod)}")

        until(probe, within=within, what=f"the end of {pod.name}")

    def wait_registered(self, condition: Callable[[set[str]], bool], what: str, *, within: float) -> float:
        """Wait until what is registered meets a condition; returns how many seconds that took."""
        began = time.time()

        def probe() -> float:
            state: dict[str, bool] = {}
            for change in [*self.registry.changes]:
                state[change.instance] = not change.deleted
            present = {instance for instance, there in state.items() if there}
            if not condition(present):
                raise NotYetError(f"{sorted(present)}")
            return time.time() - began

        return until(probe, within=within, what=what, every=0.05)

    def wait_in_etcd(self, instances: set[str], *, within: float) -> None:
        """Wait until etcd itself, asked each time, has exactly these instances."""

        def probe() -> None:
            try:
                present = self.registry.instances()
            except CommandError as error:
                raise NotYetError(str(error)) from error
            if present != instances:
                raise NotYetError(f"{sorted(present)}")

        until(probe, within=within, what=f"{sorted(instances)} in etcd", every=0.05)

    def instances(self) -> set[str]:
        """The addresses of the servers that are Ready."""
        return {f"{pod.ip}:50051" for pod in self.living("server") if pod.is_ready}

    def replicas(self) -> list[Replica]:
        """Every server that there ever was."""
        calls = self.calls()
        found = []
        for pod in self.pods.of("server"):
            instance = f"{pod.ip}:50051"
            answered = calls_to(calls, instance)
            entries = [entry for reader in self.pods.logs_of(pod) for entry in entries_in(reader.texts)]
            said: dict[str, float] = {}
            for entry in entries:
                said.setdefault(entry["event"], logged_at(entry))
            found.append(
                Replica(
                    instance=instance,
                    pod=pod.name,
                    node=pod.node,
                    ready=pod.ready,
                    registered=said.get("registered"),
                    first_call=answered[0].start if answered else None,
                    last_call=answered[-1].start if answered else None,
                    leaving=pod.leaving,
                    key_gone=self.registry.gone_at(instance),
                    deregistered=said.get("deregistered"),
                    stopped=said.get("stopped"),
                    exit_codes=tuple(pod.exit_codes),
                    calls=len(answered),
                )
            )
        return found

    def verdict(self, calls: Sequence[Call], excuses: Sequence[Excuse] = (), *, within: float = 15.0) -> Verdict:
        """Hold every call against its trace, once all spans have arrived or after `within` seconds; for the report."""
        self.record.replicas = self.replicas()
        self.record.verdict = verdict = self.zipkin.verdict(calls, excuses, within=within)
        return verdict

    def mark(self, text: str, kind: Kind = "change") -> float:
        """Mark this moment on the time line; returns it."""
        mark = Mark(time.time(), text, kind)
        self.record.marks.append(mark)
        return mark.time

    def bound(self, seconds_: float) -> float:
        """A bound in seconds, longer by as much as this machine has been slower than an idle one in this test."""
        return seconds_ * self._slowness.since(self._began)

    def close(self) -> None:
        """Stop observing."""
        self.record.figure("slowness of this machine", f"{self._slowness.since(self._began):.1f}", "1: idle")
        self._slowness.close()
        if not self.record.calls:
            self.record.calls = self.calls()
        self.pods.close()
        if self._registry is not None:
            self._registry.close()

    def _client_logs(self) -> list[LogReader]:
        return [reader for pod in self.pods.of("client") for reader in self.pods.logs_of(pod)]


def _ended(reader: LogReader) -> None:
    if not summaries_in(reader.texts[-5:]):
        raise NotYetError(f"{reader.texts[-1:]}")


def _state(pod: PodLife) -> str:
    if pod.is_ready:
        return "Ready"
    waiting = [
        reason
        for container in pod.latest.get("status", {}).get("containerStatuses", [])
        if (reason := container.get("state", {}).get("waiting", {}).get("reason"))
    ]
    return ", ".join([*waiting, "not Ready"])


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merged(merged.get(key, {}), value) if isinstance(value, Mapping) else value
    return merged
