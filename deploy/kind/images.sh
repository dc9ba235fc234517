#!/bin/bash
# Build book-server and book-client. Where a registry can be reached their base is pulled, and etcd's and Zipkin's images
# too; elsewhere all of these are made from package registries.
set -euo pipefail
. "$(dirname "$0")/steps.sh"
. "$root/deploy/kind/from-source/versions.env"

base_images=("$PYTHON_IMAGE" "$ETCD_IMAGE" "$ZIPKIN_IMAGE")
version=$(sed -n 's/^appVersion: "\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$root/deploy/helm/bookmesh/Chart.yaml")

pull() { # image; an image made from source under that name gives way
  if [ -n "$(recipe_of "$1")" ] || ! docker image inspect "$1" >/dev/null 2>&1; then docker pull "$1"; fi
}

build() { # program
  docker build --file "$root/services/$1/Dockerfile" --build-arg BASE="$PYTHON_IMAGE" --tag "bookmesh/$1:$version" "$root"
}

need_docker
source=$("$root/deploy/kind/source.sh")
for image in "${base_images[@]}"; do
  [ "$source" = source ] || step "pulling $image" pull "$image"
done
[ "$source" = registry ] || "$root/deploy/kind/from-source/build.sh" python etcd zipkin
for program in book-server book-client; do
  step "the image bookmesh/$program:$version" build "$program"
done
