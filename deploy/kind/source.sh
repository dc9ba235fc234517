#!/bin/bash
# Print where images come from: `registry` where Docker Hub can be reached, else `source`. IMAGES=registry|source decides.
set -euo pipefail
. "$(dirname "$0")/steps.sh"
probe=hello-world:latest

case ${IMAGES:-} in
  registry | source) echo "$IMAGES"; exit ;;
  '') ;;
  *) die "IMAGES is '$IMAGES': expected registry or source" ;;
esac
# The engine is asked, not this machine: it may have a proxy or a mirror. The image has 13 kB.
patience=()
! command -v timeout >/dev/null || patience=(timeout 15) # macOS has none
there=$(docker image inspect --format '{{.Id}}' "$probe" 2>/dev/null || true)
if ${patience[@]+"${patience[@]}"} docker pull --quiet "$probe" >/dev/null 2>&1; then
  [ -n "$there" ] || docker image rm "$probe" >/dev/null
  say "Docker Hub answers: images are pulled (IMAGES=source makes them from source)"
  echo registry
else
  say "Docker Hub does not answer: images are made from package registries (IMAGES=registry insists on pulling)"
  echo source
fi
