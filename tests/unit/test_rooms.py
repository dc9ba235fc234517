"""The rooms of meshkit: what each shows, what may import what, and that all of it can be reached by name."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

import meshkit

ROOT = Path(meshkit.__file__).parent
MODULES = sorted(
    ".".join(("meshkit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    # Generated, and reached by one module only.
    if "_pb2" not in path.name
)
# Above all rooms: the face, what it opens for a program, and what helps tests.
TOP = ("meshkit", "mesh", "testing")
# From the face down: a module may import from its own room and from those below, never from beside or above.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("admin",),
    ("client", "server"),
    ("discovery", "program"),
    ("etcd",),
    ("metrics",),
    ("middleware", "tls", "tracing"),
)
ROOMS = tuple(room for floor in FLOORS for room in floor)
# Packages that one place knows alone, so that they can be replaced there.
ONLY_IN = {
    "click": ("meshkit.program",),
    "etcd3": ("meshkit.etcd",),
    "opentelemetry.exporter": ("meshkit.tracing.zipkin",),
    "prometheus_client": ("meshkit.metrics.collector",),
    "starlette": ("meshkit.admin.routes",),
    "uvicorn": ("meshkit.admin.http",),
    "pybreaker": ("meshkit.middleware.breaker",),
    "uvloop": ("meshkit.program.runtime",),
}
NAMES = {
    "meshkit": """
        CallError ClientTls DelayingLimiter Endpoint Endpointer EtcdClient HystrixBreaker HystrixPolicy Instancer
        Mesh MeshChannel MeshError Middleware
        MiddlewareInterceptor PemFiles Registrar Retry RetryError RoundRobin ServerTls TokenBucket
        TracingServerInterceptor chain channel_factory configure_logging open_tracer root_span run_async serve
        stop_signal trace_id_of
    """,
    "meshkit.admin": "Action Admin admin_port forwarded",
    "meshkit.client": """
        Balancer CallError Connection DeadlineChannel EJECTION EndpointSource Endpointer Factory InstanceEndpoint
        InstanceSource LeastRequest MeshChannel PeakEwma Random Retry RetryBudget RoundRobin TracedChannel
        TracingClientInterceptor channel_factory instance_breaker instance_channel
    """,
    "meshkit.server": """
        CallerInterceptor HandlerInterceptor HealthServicer MiddlewareInterceptor TracingServerInterceptor leaving serve
    """,
    "meshkit.discovery": "InstanceChange Instancer Observer Registrar",
    "meshkit.program": "LOG_FORMATS LOG_LEVELS LogFormat LogLevel configure_logging run_async stop_signal",
    "meshkit.etcd": "Etcd EtcdClient EtcdLogin Event KeyValue Lease Listing WatchBatch",
    "meshkit.metrics": """
        BOUNDS ClientMetrics ClientSources Histogram MeshCollector MethodCalls ServerMetrics Sources quantile
        registry_of
    """,
    "meshkit.middleware": "DelayingLimiter ErroringLimiter HystrixBreaker HystrixPolicy StateListener TokenBucket",
    "meshkit.tls": "ClientTls Pem PemFiles PemWatch ServerTls",
    "meshkit.tracing": """
        B3Propagator OtlpExporter PROPAGATORS PreparingExporter Propagation ResendingSpanProcessor SAMPLERS SpanCounts
        SpanEncoder TraceSettings b3_sampler open_tracer root_span span_processors_of trace_id_of tracer_provider
        zipkin_exporter
    """,
}


def room_of(module: str) -> str:
    """The room of a module's dotted name; a stone is its own."""
    return module.split(".")[1] if "." in module else "meshkit"


def floor_of(module: str) -> int:
    """Counted downwards; 1: the uppermost rooms. The stones are the lowest."""
    room = room_of(module)
    if room in TOP:
        return TOP.index(room) - len(TOP)
    return next((number for number, floor in enumerate(FLOORS, 1) if room in floor), len(FLOORS) + 1)


def imports_of(module: str) -> Iterator[str]:
    """Dotted names of the modules that a module's source imports, wherever in it."""
    for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(module)))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (name for alias in node.names if (name := f"{node.module}.{alias.name}") in MODULES)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("room", NAMES)
def test_a_room_shows_these_names_and_no_others(room: str) -> None:
    shown = importlib.import_module(room).__all__
    assert sorted(shown) == sorted(NAMES[room].split())
    assert all(hasattr(sys.modules[room], name) for name in shown)


def test_each_room_is_pinned() -> None:
    assert sorted(NAMES) == sorted(["meshkit", *(f"meshkit.{room}" for room in ROOMS)])
    assert sorted(path.parent.name for path in ROOT.glob("*/__init__.py")) == sorted(ROOMS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_its_room_and_those_below(module: str) -> None:
    against = [
        other
        for other in imports_of(module)
        if within(other, "meshkit") and other != "meshkit" and room_of(other) != room_of(module)
        if floor_of(other) <= floor_of(module) <= len(FLOORS)
    ]
    assert against == []


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_that_may_be_replaced_is_known_in_one_place(package: str) -> None:
    users = [module for module in MODULES if any(within(other, package) for other in imports_of(module))]
    assert users, f"{package} is not used: take it off the list"
    assert [user for user in users if not any(within(user, home) for home in ONLY_IN[package])] == []


def test_calls_know_no_etcd_and_spans_know_no_registry() -> None:
    who_may = {*TOP, "etcd", "discovery", "program"}
    assert {room_of(m) for m in MODULES if any(within(other, "meshkit.etcd") for other in imports_of(m))} <= who_may


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_reached_by_its_dotted_name(module: str) -> None:
    importlib.import_module(module)
    found: object = meshkit
    for package, name in pairwise(module.split(".")):
        found = getattr(found, name)
        assert isinstance(found, ModuleType), f"{name} in {package} is no module: something hides it"


def test_importing_meshkit_warns_of_nothing_but_protobufs_own_code() -> None:
    # protobuf 3.20, from Python 3.12 on.
    but = "ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning"
    command = [sys.executable, "-W", "error", "-W", but, "-c", "import meshkit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
