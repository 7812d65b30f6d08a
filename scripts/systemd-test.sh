#!/usr/bin/env bash
# Weir's units under a real systemd, started as process 1 of namespaces of its own.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/systemd-test.sh [--weir PATH] [--cache DIR] [--transcript FILE] [--restarts N] [--rate N]
                               [--keep]

Makes a small root out of Debian packages (apt's configured sources; nothing of this machine is changed), builds
and installs Weir's own package in it, starts its systemd as process 1 in namespaces of its own, and does what an
operator does:

  install     the package, its group, `systemd-analyze verify` and `security` (2.0 or lower)
  start       sockets, READY, the sandbox that the process is really in, journal priorities, status line
  reload      `systemctl reload` and SIGHUP under load: taken over, no connection dropped; a bad file: fails
  watchdog    the whole process stopped, then one shard's thread held: killed and started again
  restart     again and again under load, and connecting all the while: nobody refused, `weir audit`: balanced
  stop        drains for longer than TimeoutStopSec=, exit status 0; ACKs that never come: 3
  tls         a certificate by LoadCredential=, which only root can read; files that a group can read, renewed under load
  tuning      weir-tuning.service: applied, taken back, also when it fails half way; examples/isolate.conf
  failure     a wrong weir.toml does not start, says why, and costs no socket; a removal puts back host settings applied by hand

  --weir PATH        the program, with weir-bench beside it (target/release/weir, built if it is missing)
  --cache DIR        the root is made there and stays (otherwise made anew in a scratch directory)
  --transcript FILE  writes what is printed there as well
  --restarts N       restarts under load (5)
  --rate N           messages per second during them (20000)
  --keep             the scratch directory stays; its name is printed

Needs root, Linux 6.0 or later with a cgroup2 mount, apt-get, dpkg-deb, unshare, nsenter; python3 for the held
thread, which is otherwise skipped. Takes about two minutes.
Exit status: 0 all of it held, 1 something did not, 2 usage, 4 not possible here.
TEXT
}

weir=target/release/weir cache="" transcript="" restarts=5 rate=20000 keep=no
misuse() { echo "systemd-test: $*; see --help" >&2; exit 2; }
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --weir | --cache | --transcript | --restarts | --rate)
        (($# >= 2)) || misuse "$1 needs a value"
        case "$1" in
        --weir) weir=$(realpath -m "$2") ;;
        --cache) cache=$(realpath -m "$2") ;;
        --transcript) transcript=$(realpath -m "$2") ;;
        --restarts) restarts=$2 ;;
        --rate) rate=$2 ;;
        esac
        shift ;;
    --keep) keep=yes ;;
    *) misuse "$1: unknown" ;;
    esac
    shift
done
for number in "$restarts" "$rate"; do
    [[ "$number" =~ ^[1-9][0-9]{0,5}$ ]] || misuse "$number: 1 to 999999 is allowed"
done

cd "$(dirname "$0")/.."
impossible() { echo "systemd-test: $*" >&2; exit 4; }
((EUID == 0)) || impossible "needs root: namespaces, mounts and a cgroup"
for tool in apt-get dpkg-deb unshare nsenter findmnt; do
    command -v "$tool" >/dev/null || impossible "$tool is missing"
done
cgroups=$(findmnt -n -t cgroup2 -o TARGET | head -1)
[[ -n "$cgroups" ]] || impossible "no cgroup2 is mounted here"
[[ -x "$weir" && -x "${weir%/*}/weir-bench" ]] || cargo build --release --locked --workspace

scratch=$(mktemp -d -t weir-systemd-XXXXXXXX)
cgroup=$cgroups/weir-systemd-test-$$
outer=""
clean_up() {
    trap - EXIT INT TERM
    # Process 1 of the namespace takes everything in it along.
    if [[ -n "$outer" ]]; then kill -KILL "$outer" 2>/dev/null || true; wait "$outer" 2>/dev/null || true; fi
    # What was killed is gone a moment later.
    local try
    for try in {1..50}; do
        find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null || true
        [[ -d "$cgroup" ]] || break
        ((try < 50)) || echo "systemd-test: $cgroup stays" >&2
        sleep 0.1
    done
    if [[ "$keep" == yes ]]; then echo "kept: $scratch"; else rm -rf "$scratch"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
[[ -z "$transcript" ]] || exec > >(tee "$transcript") 2>&1

# shellcheck source=scripts/systemd/steps.sh
source scripts/systemd/steps.sh

title "root"
base=${cache:-$scratch/base}
scripts/systemd/make-root.sh "$base" || exit 4
packages=("$base"/archives/*.deb) systemd=("$base"/archives/systemd_*)
say "${systemd[0]##*/}, one of ${#packages[@]} packages"
# A copy, so that each run begins with the same.
cp -a "$base/root" "$scratch/root"
scripts/deb.sh --out "$scratch/root/package" --weir "$weir"
boot
step_install
step_start
step_reload
step_watchdog
step_restart
step_stop
step_tls
step_tuning
step_failure

title "result"
say "$passed held, $failed did not, $skipped skipped"
((failed == 0))
