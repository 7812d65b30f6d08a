#!/usr/bin/env bash
# Builds the image and runs compose.yaml for real, under a Docker engine of its own.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/containers-test.sh [--cache DIR] [--weir PATH | --profile NAME] [--transcript FILE]
                                  [--seconds N] [--keep]

Starts a Docker engine in namespaces of its own (network, mounts, processes; nothing of this machine is changed),
builds the image from the Dockerfile as it is, and does what a user does:

  build       docker-compose build; the image is at most 12 MB, its user is a number and not root
  compose     `up --build --scale emitter-1=3 --scale analyzer-1=2 --scale distributor=2`: healthy, ready, read-only,
              no capabilities, no new privileges, a seccomp filter
  observe     Prometheus of the profile (Debian's, under the public name) finds and scrapes them, and has the alerts.
              Grafana is not tried: it is not among Debian's packages
  audit       `stop`, in the order of compose.yaml: each container ends with 0, `weir audit` over all run reports: balanced
  tls         the same with deploy/compose/tls.yaml: certificates of `weir cert`, who shows none is kept out, a renewed one
              is shown without a restart, and what is mounted as Kubernetes does it (links that are swapped)
  strict      the same under deploy/seccomp/weir-strict.json
  refusal     a profile without io_uring (EPERM as Docker's, ENOSYS as podman's): not started, and the message
              names the profile

No registry of images is asked. The base image is made of Debian packages (apt's configured sources), the Rust
toolchain and the downloaded crates of this machine, and imported under the public name that the Dockerfile has.

  --cache DIR        base image and the engine's store are made there and stay: the second run is faster
  --weir PATH        this program goes into the image instead of one that is compiled there, linked statically as
                     the Dockerfile does it. For a second look, as compiling takes minutes
  --profile NAME     cargo's profile in the image: dist (the default, what users get) or release
  --transcript FILE  writes what is printed there as well
  --seconds N        how long it runs under load (5)
  --keep             the scratch directory stays; its name is printed

Needs root, a Docker engine (Debian: docker.io), docker-compose, mmdebstrap, cargo with rustc.
Exit status: 0 all of it held, 1 something did not, 2 usage or not possible here (a sentence says why).
TEXT
}

cache="" weir="" profile=dist transcript="" seconds=5 keep=no
misuse() { echo "containers-test: $*; see --help" >&2; exit 2; }
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --cache | --weir | --profile | --transcript | --seconds)
        (($# >= 2)) || misuse "$1 needs a value"
        case "$1" in
        --cache) cache=$(realpath -m "$2") ;;
        --weir) weir=$(realpath -m "$2") ;;
        --profile) profile=$2 ;;
        --transcript) transcript=$(realpath -m "$2") ;;
        --seconds) seconds=$2 ;;
        esac
        shift ;;
    --keep) keep=yes ;;
    *) misuse "$1: unknown" ;;
    esac
    shift
done
[[ "$profile" == dist || "$profile" == release ]] || misuse "--profile $profile: allowed: dist, release"
[[ "$seconds" =~ ^[1-9][0-9]{0,2}$ ]] || misuse "--seconds $seconds: allowed: 1 to 999"

cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib/program.sh
source scripts/lib/program.sh
[[ -z "$weir" ]] || why_not weir "$weir" || misuse "--weir $weir: $REPLY"
impossible() { echo "containers-test: skipped: $*" >&2; exit 2; }
((EUID == 0)) || impossible "needs root: an engine, namespaces, mounts"
for tool in dockerd docker docker-compose mmdebstrap unshare curl python3 cargo rustc; do
    command -v "$tool" >/dev/null || impossible "$tool is missing (apt-get install docker.io docker-compose mmdebstrap curl python3)"
done

scratch=$(mktemp -d -t weir-containers-XXXXXXXX)
outer=""
# shellcheck disable=SC2317,SC2329 # called by the trap
clean_up() {
    trap - EXIT INT TERM
    # Process 1 of the namespace takes the engine and all containers along.
    if [[ -n "$outer" ]]; then kill -KILL "$outer" 2>/dev/null || true; wait "$outer" 2>/dev/null || true; fi
    if [[ "$keep" == yes ]]; then echo "kept: $scratch"; else rm -rf "$scratch"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
[[ -z "$transcript" ]] || exec > >(tee "$transcript") 2>&1

store=${cache:-$scratch}
mkdir -p "$store"
scripts/containers/make-base.sh "$store"
# --kill-child: whoever ends this script ends the engine.
unshare --mount --net --pid --fork --kill-child --mount-proc \
    scripts/containers/steps.sh "$scratch" "$store" "$profile" "$seconds" "$weir" &
outer=$!
status=0
wait "$outer" || status=$?
outer=""
exit "$status"
