#!/bin/bash
# Build Kubernetes' programs and their companions from the Go module proxy into the folder given.
# Some ten minutes on two cores; what is there already is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/versions.env"
bin=$1
mkdir -p "$bin"
export CGO_ENABLED=0 GOFLAGS=-trimpath GOTOOLCHAIN=${GOTOOLCHAIN:-auto}

have() { for program in "$@"; do [ -x "$bin/$program" ] || return 1; done; }

# go install refuses GOBIN for cross builds only; programs appear whole, under their final names.
install() { # the program's name, what `go install` takes, linker flags
  have "$1" && return
  echo "  building $1" >&2
  local out; out=$(mktemp -d "$bin/.build.XXXX")
  GOBIN=$out go install -ldflags "-s -w ${3:-}" "$2"
  mv "$out"/* "$bin/$1"; rmdir "$out"
}

programs="kubeadm kubelet kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy"
if ! have $programs; then
  echo "  building Kubernetes $KUBERNETES (five minutes or more)" >&2
  work=$(mktemp -d "$bin/.build.XXXX")
  cd "$work"
  python3 "$here/kubernetes_module.py" "$KUBERNETES"
  go mod tidy -e >tidy.log 2>&1 || { tail -20 tidy.log >&2; exit 1; }
  flags="-s -w"
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags="$flags -X $package.gitVersion=v$KUBERNETES -X $package.gitMajor=1 -X $package.gitMinor=$(echo "$KUBERNETES" | cut -d. -f2)"
    flags="$flags -X $package.gitTreeState=clean -X $package.gitCommit=from-source -X $package.buildDate=2026-01-01T00:00:00Z"
  done
  mkdir out
  go build -ldflags "$flags" -o out/ $(printf 'k8s.io/kubernetes/cmd/%s ' $programs)
  mv out/* "$bin/"
  cd "$bin"; rm -rf "$work"
fi
for plugin in main/bridge main/loopback ipam/host-local meta/portmap; do
  install "$(basename $plugin)" "github.com/containernetworking/plugins/plugins/$plugin@v$CNI_PLUGINS"
done
install coredns "github.com/coredns/coredns@v$COREDNS"
install local-path-provisioner "github.com/rancher/local-path-provisioner@v$LOCAL_PATH_PROVISIONER"
