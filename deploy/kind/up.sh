#!/bin/bash
# Make the cluster, or bring an existing one up to date: build the images and load those that changed.
set -euo pipefail
. "$(dirname "$0")/steps.sh"
. "$root/deploy/kind/from-source/versions.env"
port=${ZIPKIN_PORT:-9411}
began=$SECONDS

[[ $port =~ ^[0-9]+$ ]] && [ "$port" -le 65535 ] || die "ZIPKIN_PORT is '$port': expected a port, or 0 for any"
[[ $cluster =~ ^[a-z0-9][a-z0-9.-]*$ ]] || die "CLUSTER is '$cluster': expected lower-case letters, digits, dots and dashes"
need_docker
lock "cluster-$cluster"
IMAGES=$("$root/deploy/kind/source.sh")
export IMAGES
# Written out below as ${node_image[@]+…}: to macOS's bash, an empty list is an unset one.
node_image=() proxy_mode=iptables # kind's default
if [ "$IMAGES" = source ]; then
  [ -z "${NODE:-}" ] || die "NODE is '$NODE': only where images are pulled; here the node is made from source"
  "$root/deploy/kind/from-source/build.sh" node
  node_image=(--image "$NODE_IMAGE")
  # The firewall writes all of iptables' filter table anew, with what it read a moment before: a proxy that keeps rules
  # there would lose some. With nftables it has a table of its own.
  proxy_mode=nftables
elif [ -n "${NODE:-}" ]; then
  node_image=(--image "$NODE")
fi
"$root/deploy/kind/images.sh"

# Not grep -q: it stops at the first match, and who writes into its pipe after that has failed.
exists() { kind get clusters 2>/dev/null | grep -xF "$cluster" >/dev/null; }
ready() { kubectl --context "kind-$cluster" --request-timeout=5s get --raw /readyz >/dev/null 2>&1; }

answers() { # within half a minute: its machine may be busy
  local deadline=$((SECONDS + 30))
  until ready; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 1
  done
}

create() {
  # One at a time: two that make Docker's network `kind` at the same moment make it twice.
  lock kind-network
  sed "s/ZIPKIN_PORT/$port/; s/PROXY_MODE/$proxy_mode/" "$root/deploy/kind/cluster.yaml" \
    | kind create cluster --name "$cluster" --config - ${node_image[@]+"${node_image[@]}"} --wait 180s
}

if exists; then
  kind export kubeconfig --name "$cluster" >/dev/null 2>&1 || true
  if answers; then say "the cluster $cluster is there"; else
    say "the cluster $cluster is there, but does not answer: it is made anew"
    step "deleting the cluster $cluster" kind delete cluster --name "$cluster"
  fi
fi
exists || step "the cluster $cluster: a control plane and two workers" create

# What a worker has under a name is remembered by a label beside the image in its store, and goes when the image goes.
has() { # node, image, id
  docker exec "$1" ctr --namespace k8s.io images ls "name==$(full_name "$2")" 2>/dev/null | grep -F "bookmesh.id=$3" >/dev/null
}

full_name() { # image
  case ${1%%/*} in *.*) echo "$1" ;; *) echo "docker.io/$1" ;; esac
}

load() { # workers (comma list), then images
  kind load docker-image --name "$cluster" --nodes "$1" "${@:2}"
  local image node
  for node in ${1//,/ }; do
    for image in "${@:2}"; do
      docker exec "$node" ctr --namespace k8s.io images label "$(full_name "$image")" "bookmesh.id=$(id_of "$image")"
    done
  done
}

id_of() { docker image inspect --format '{{.Id}}' "$1"; }

version=$(sed -n 's/^appVersion: "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$root/deploy/helm/bookmesh/Chart.yaml")
workers=$(kind get nodes --name "$cluster" 2>/dev/null | grep worker | sort | paste -sd, -)
stale=()
for image in "bookmesh/book-server:$version" "bookmesh/book-client:$version" "$ETCD_IMAGE" "$ZIPKIN_IMAGE"; do
  for worker in ${workers//,/ }; do
    has "$worker" "$image" "$(id_of "$image")" || { stale+=("$image"); break; }
  done
done
[ "${#stale[@]}" = 0 ] || step "loading ${#stale[@]} images into the workers" load "$workers" "${stale[@]}"

say "the cluster $cluster is up after $((SECONDS - began)) s; kubectl's context is kind-$cluster"
say "next: helm install mesh deploy/helm/bookmesh --kube-context kind-$cluster"
