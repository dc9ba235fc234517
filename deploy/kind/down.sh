#!/bin/bash
# Delete the cluster, its context in the kubeconfig, and, after the last cluster, Docker's network for them.
set -euo pipefail
. "$(dirname "$0")/steps.sh"

need_docker
lock "cluster-$cluster"
step "deleting the cluster $cluster" kind delete cluster --name "$cluster"
lock kind-network
if [ -z "$(docker ps --all --quiet --filter network=kind)" ] && docker network inspect kind >/dev/null 2>&1; then
  docker network rm kind >/dev/null
fi
