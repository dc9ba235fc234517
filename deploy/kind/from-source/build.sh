#!/bin/bash
# Make, out of package registries alone, the images that otherwise come from container registries. Each carries a
# checksum of what it is made from, so that only what changed is made again. Usage: build.sh [python|etcd|zipkin|node]...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/../steps.sh"
. "$here/versions.env"

case $(uname -m) in x86_64) architecture=amd64 ;; aarch64 | arm64) architecture=arm64 ;; *) die "no images for $(uname -m)" ;; esac
authorities=/etc/ssl/certs/ca-certificates.crt
work=$(mktemp -d "${TMPDIR:-/tmp}/bookmesh-images.XXXXXX")
trap 'rm -rf "$work"' EXIT

toolchain() { # the folder to leave them in, then tools; a terminal sees their progress
  (cd "$root" && .venv/bin/python -m toolchain --into "$1" "${@:2}")
}

# What an image is made from: its folder here, the versions, the base and the machine.
recipe() { # image's folder
  local files=("$here/versions.env" "$root/toolchain/tools.py" "$root"/toolchain/modules/*/go.* "$root/requirements/java.lock")
  [ "$1" != node ] || files+=("$here/build.sh") # has the control plane's recipes
  [ ! -f "$authorities" ] || files+=("$authorities")
  { echo "$architecture" && cat "${files[@]}" && find "$here/debian" "$here/$1" -type f -print0 | sort -z | xargs -0 cat; } \
    | sha256sum | cut -c1-12
}

current() { # image, its folder
  local wanted
  wanted=$(recipe "$2") || die "cannot read what $1 is made from"
  [ "$(recipe_of "$1")" = "$wanted" ]
}

build() { # image, its folder here, build context, then more arguments
  cp "$here/$2/Dockerfile" "$3/"
  # The old image, if any, stays whole until this one is.
  docker build --label bookmesh.recipe="$(recipe "$2")" --tag "$1" "${@:4}" "$3"
}

debian_tarball() {
  local tarball
  tarball=$cache/debian-$DEBIAN-$architecture-$(sha256sum <"$here/debian/bootstrap" | cut -c1-12).tar
  [ -f "$tarball" ] || {
    command -v mmdebstrap >/dev/null || { echo "mmdebstrap is needed: apt-get install mmdebstrap"; return 1; }
    "$here/debian/bootstrap" "$DEBIAN" "$tarball.new.tar"
    mv "$tarball.new.tar" "$tarball"
  }
  mkdir "$work/debian"
  ln "$tarball" "$work/debian/debian.tar" 2>/dev/null || cp "$tarball" "$work/debian/debian.tar"
  if [ -f "$authorities" ]; then cp "$authorities" "$work/debian/"; else
    tar -xOf "$tarball" "./etc/ssl/certs/ca-certificates.crt" >"$work/debian/ca-certificates.crt"; fi
}

debian() {
  current bookmesh/debian debian && return
  step "Debian $DEBIAN, from its packages" debian_tarball
  step "the image bookmesh/debian" build bookmesh/debian debian "$work/debian"
}

python() {
  current "$PYTHON_IMAGE" python && return
  debian
  mkdir "$work/python"
  step "the image $PYTHON_IMAGE" build "$PYTHON_IMAGE" python "$work/python"
}

etcd() {
  current "$ETCD_IMAGE" etcd && return
  toolchain "$work/etcd-links" etcd-for-image
  mkdir "$work/etcd"
  cp -L "$work/etcd-links"/* "$work/etcd/"
  step "the image $ETCD_IMAGE" build "$ETCD_IMAGE" etcd "$work/etcd"
}

zipkin() {
  current "$ZIPKIN_IMAGE" zipkin && return
  debian
  toolchain "$work/zipkin-links" zipkin java-for-image
  mkdir "$work/zipkin"
  cp -L "$work/zipkin-links/zipkin.jar" "$work/zipkin/"
  cp -R "$(dirname "$(readlink -f "$work/zipkin-links/java-runtime/release")")" "$work/zipkin/java-runtime"
  step "the image $ZIPKIN_IMAGE" build "$ZIPKIN_IMAGE" zipkin "$work/zipkin"
}

# One image of the control plane, under the name that kubeadm gives it.
control_plane_image() { # image, base, program
  local context; context=$(mktemp -d "$work/context.XXXXXX")
  cp -L "$3" "$context/"
  printf 'FROM %s\nCOPY %s /usr/local/bin/\nENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nENTRYPOINT ["/usr/local/bin/%s"]\n' \
    "$2" "${3##*/}" "${3##*/}" >"$context/Dockerfile"
  docker build --quiet --tag "$1" "$context"
  images+=("$1")
}

control_plane_images() {
  local image images=(bookmesh/debian:latest) program
  CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$work/programs/pause" "$here/node/pause/main.go"
  printf 'FROM bookmesh/debian\nRUN apt-get update -q && apt-get install -q -y --no-install-recommends iptables nftables conntrack kmod && rm -rf /var/lib/apt/lists/*\n' \
    | docker build --tag bookmesh/kube-proxy-base -
  for image in $("$work/kubernetes/kubeadm" config images list --kubernetes-version "v$KUBERNETES") "registry.k8s.io/pause:$SANDBOX_PAUSE"; do
    program=${image##*/}
    program=${program%%:*}
    case $program in
      kube-proxy) control_plane_image "$image" bookmesh/kube-proxy-base "$work/kubernetes/kube-proxy" ;;
      pause) control_plane_image "$image" scratch "$work/programs/pause" ;;
      etcd) control_plane_image "$image" scratch "$work/others/etcd" ;;
      coredns) control_plane_image "$image" scratch "$work/others/coredns" ;;
      kube-*) control_plane_image "$image" scratch "$work/kubernetes/$program" ;;
      *) echo "kubeadm wants $image, which this script cannot make"; return 1 ;;
    esac
  done
  control_plane_image bookmesh/local-path-provisioner:latest scratch "$work/others/local-path-provisioner"
  docker save --output "$work/node/images.tar" "${images[@]}"
  docker image rm "${images[@]:1}" bookmesh/kube-proxy-base
}

node_image() {
  local upstream
  upstream=$(cd "$work" && go mod download -json "sigs.k8s.io/kind@v$KIND" | jq -r .Dir)
  mkdir -p "$work/node/bin" "$work/node/cni"
  cp -R "$upstream/images/base/files" "$work/node/kind"
  chmod -R u+w "$work/node/kind"
  cp -R "$here/node/files" "$work/node/files"
  cp -L "$work/kubernetes"/{kubeadm,kubelet,kubectl} "$work/others/kube-router" "$work/node/bin/"
  cp -L "$work/cni"/* "$work/node/cni/"
  build "$NODE_IMAGE" node "$work/node" --build-arg KUBERNETES="v$KUBERNETES"
}

node() {
  current "$NODE_IMAGE" node && return
  debian
  toolchain "$work/kubernetes" kubernetes
  toolchain "$work/others" coredns local-path-provisioner etcd-for-image kube-router
  toolchain "$work/cni" cni-plugins
  mkdir "$work/node"
  step "the control plane's images" control_plane_images
  step "the image $NODE_IMAGE" node_image
}

need_docker
[ "$(uname -s)" = Linux ] || die "images are made from source on Linux only"
lock images-from-source
for image in "${@:-python etcd zipkin node}"; do
  for one in $image; do "$one"; done
done
