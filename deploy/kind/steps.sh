# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it: what they say, and how long each step took.

cluster=${CLUSTER:-bookmesh}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}
case $cache in /*) ;; *) cache=$HOME/.cache ;; esac # as the XDG specification has it
cache=$cache/bookmesh
export PATH=$root/.tools/bin:$PATH

say() { echo "kind: $*" >&2; }
die() { say "$*"; exit 1; }

# Run a step and tell its time. What it prints goes into a log, whose end is shown if it fails.
step() { # what is done, then the command
  local text=$1 started=$SECONDS log status
  shift
  mkdir -p "$root/.run/kind"
  log=$root/.run/kind/${text//[^A-Za-z0-9.]/-}.log
  say "$text …"
  # Not `if ! "$@"`: bash would then go on after an error inside a function.
  set +e
  (set -e; "$@") >"$log" 2>&1 </dev/null
  status=$?
  set -e
  if [ "$status" != 0 ]; then
    tail -n 25 "$log" >&2
    die "$text: failed after $((SECONDS - started)) s; all of its output is in ${log#"$root"/}"
  fi
  say "$text: $((SECONDS - started)) s"
}

# Hold a name among all checkouts on this machine, until this script ends; one holder at a time.
lock() { # the name
  command -v flock >/dev/null || return 0 # not on macOS, where two at a time are rare
  local handle
  mkdir -p "$cache"
  exec {handle}>"$cache/$1.lock"
  flock --nonblock "$handle" || { say "waiting for another run that holds $1"; flock "$handle"; }
}

need_docker() {
  command -v docker >/dev/null || die "docker is needed: https://docs.docker.com/engine/install"
  docker info >/dev/null 2>&1 || die "Docker does not answer: start it, or see 'docker info' for what is wrong"
}

# The image's label `bookmesh.recipe`: what it was made from, if it was made here.
recipe_of() { docker image inspect --format '{{index .Config.Labels "bookmesh.recipe"}}' "$1" 2>/dev/null || true; }
