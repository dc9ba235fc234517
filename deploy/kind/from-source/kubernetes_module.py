"""Write the go.mod of a module that builds Kubernetes' own programs: `kubernetes_module.py 1.35.4`, in an empty folder.

k8s.io/kubernetes cannot be installed by `go install`: it replaces its staging modules by folders. Published under the
same names as v0.35.4, they can stand in for them.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

PROGRAMS = (
    "kubeadm",
    "kubelet",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
)


def main() -> None:
    """Write go.mod and tools.go into the current folder."""
    version = sys.argv[1]
    download = ["go", "mod", "download", "-json", f"k8s.io/kubernetes@v{version}"]
    module = json.loads(subprocess.check_output(download, text=True))
    upstream = Path(module["GoMod"]).read_text()
    go = re.search(r"^go .*$", upstream, re.MULTILINE)
    if go is None:
        sys.exit(f"{module['GoMod']} names no Go version")
    staging = sorted(set(re.findall(r"^\s*(k8s\.io/\S+) v0\.0\.0$", upstream, re.MULTILINE)))
    replacements = [f"\t{name} => {name} v0.{version.split('.', 1)[1]}" for name in staging]
    lines = ["module kubernetes-from-source", "", go.group(0), "", f"require k8s.io/kubernetes v{version}", ""]
    Path("go.mod").write_text("\n".join([*lines, "replace (", *replacements, ")", ""]))
    imports = [f'\t_ "k8s.io/kubernetes/cmd/{program}"' for program in PROGRAMS]
    Path("tools.go").write_text("\n".join(["//go:build tools", "", "package tools", "", "import (", *imports, ")", ""]))


if __name__ == "__main__":
    main()
