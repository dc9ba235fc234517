"""A cluster that is there already (`make e2e` sees to that), a namespace and a release for each test, and the report.

BOOKMESH_E2E_KUBECONFIG  the cluster; default .run/e2e/kubeconfig
BOOKMESH_E2E_RUN         where the report and the bundles go; default .run/e2e
BOOKMESH_E2E_TAG         tag of the images of both programs; default: the chart's
BOOKMESH_E2E_TLS         any text: mutual TLS for all releases
BOOKMESH_E2E_VALUES      a file of chart values that win over the tests' own
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness.bundle import save_bundle
from tests.e2e.harness.cluster import ROOT, Cluster
from tests.e2e.harness.mesh import Mesh
from tests.e2e.harness.record import Record
from tests.e2e.report.page import Outcome, write_report

RUN_DIR = Path(os.environ.get("BOOKMESH_E2E_RUN", ROOT / ".run/e2e"))

_outcomes: dict[str, Outcome] = {}


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    kubeconfig = Path(os.environ.get("BOOKMESH_E2E_KUBECONFIG", RUN_DIR / "kubeconfig"))
    if not kubeconfig.exists():
        pytest.fail(f"no cluster: {kubeconfig} is not there; `make e2e` makes one", pytrace=False)
    return Cluster(kubeconfig)


@pytest.fixture(autouse=True)
def _share_of_the_cluster(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[None]:
    """Tests share the cluster; one that is marked `alone` has it to itself."""
    alone = request.node.get_closest_marker("alone") is not None
    # Not kubeconfig.lock, which is what kind and kubectl take for their own lock.
    with cluster.kubeconfig.with_name("share-of-the-cluster").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Iterator[Record]:
    record = Record(request.node.name, time.time(), RUN_DIR / request.node.name)
    shutil.rmtree(record.folder, ignore_errors=True)
    yield record
    record.save()


@pytest.fixture
def namespace(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    purpose = request.node.name.removeprefix("test_").replace("_", "-")[:24]
    with cluster.namespace(purpose) as name:
        yield name


@pytest.fixture
def mesh(cluster: Cluster, namespace: str, record: Record) -> Iterator[Mesh]:
    mesh = Mesh(cluster, namespace, record)
    yield mesh
    mesh.close()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: does something to the whole cluster, such as stopping a node")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that need the cluster for themselves come last, when the others no longer wait for them."""
    items.sort(key=lambda item: item.get_closest_marker("alone") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Leave a bundle while everything is still there, and say where."""
    try:
        return (yield)
    # What pytest itself raises, when a test takes too long for one, is no Exception.
    except (Exception, pytest.fail.Exception) as error:
        mesh = getattr(item, "funcargs", {}).get("mesh")
        if mesh is not None:
            save_bundle(mesh, mesh.record.folder)
            error.add_note(f"logs, events, etcd, traces and more: {os.path.relpath(mesh.record.folder)}/")
        raise


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    name = report.nodeid.rpartition("::")[2]
    outcome = _outcomes.setdefault(name, Outcome())
    outcome.seconds += report.duration
    if report.when == "call" or not report.passed:
        outcome.word = report.outcome
        if report.skipped and isinstance(report.longrepr, tuple):
            outcome.reason = report.longrepr[2]
        elif report.failed:
            outcome.reason = getattr(getattr(report.longrepr, "reprcrash", None), "message", str(report.longrepr))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _outcomes:
        path = write_report(RUN_DIR, _outcomes)
        terminalreporter.section("what happened")
        for line in path.with_suffix(".txt").read_text().splitlines():
            terminalreporter.line(line)
        terminalreporter.line(f"to look at: {os.path.relpath(path)}")
