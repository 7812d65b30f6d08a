#!/usr/bin/env bash
# Breaks a running system in every way that the network and the operating system offer, and counts.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/chaos.sh [--runs N] [--scenario NAME]... [--list] [--json FILE]
                        [--jobs N] [--seed N] [--keep DIR] [--weir PATH] [--tls]

Runs the real programs on hosts of their own (network namespaces with veth links: one for the
distributor, one for each emitter and analyzer), does to them what a scenario says, and compares what
emitters sent with what analyzers recorded before they ACKed it.

  --runs N         runs of each scenario (1); they go through 1 to 3 shards and the dialects in turn
  --scenario NAME  only this one; may be repeated
  --list           the scenarios, one line each
  --json FILE      all figures of every run
  --jobs N         runs at a time (1); each has its own namespaces, but the times are of a busy machine
  --seed N         repeats the random choices of an earlier series; printed at the start
  --keep DIR       keep the files of failed runs there: logs and records
  --tls            every connection over TLS, with certificates on either side
  --weir PATH      the program (target/release/weir, built if it is missing)

Columns: missing = taken in by the distributor and delivered to nobody, or lost where nothing may be;
not taken = in the kernels of an emitter connection that was broken on purpose (the protocol has no
answer for emitters); twice = delivered more than once; of them flagged = on native links only, with
the mark of a re-delivery. Times are the distributor's own: from what was done to the death of the link
being found, and from there to the last of its messages written to another analyzer.

Needs root, iproute2, python3; nftables for some scenarios, which are otherwise skipped, never passed.
Exit status: 0 nothing missing, 1 something missing or a run failed, 2 usage, 4 not permitted here.
TEXT
}

for word in "$@"; do
    case "$word" in -h | --help) usage; exit 0 ;; esac
done

cd "$(dirname "$0")/.."
command -v python3 >/dev/null || { echo "chaos: python3 is missing" >&2; exit 4; }
tag="weirchaos$$"
scratch=$(mktemp -d -t weir-chaos-XXXXXXXX)
series=""

# Whatever still runs on hosts of this series, and the hosts. Their names begin with this tag, so
# nothing else can be among them.
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    trap - EXIT INT TERM HUP
    if [[ -n "$series" ]] && kill -0 "$series" 2>/dev/null; then
        kill -TERM "$series" 2>/dev/null || true
        wait "$series" 2>/dev/null || true
    fi
    local host pid
    for host in $(ip netns list 2>/dev/null | awk '{print $1}' | grep "^$tag-" || true); do
        for pid in $(ip netns pids "$host"); do
            kill -KILL "$pid" 2>/dev/null || true
        done
        ip netns del "$host" 2>/dev/null || true
    done
    find /sys/fs/cgroup/memory -maxdepth 1 -type d -name "$tag-*" -exec rmdir {} + 2>/dev/null || true
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'clean_up; exit 130' INT
trap 'clean_up; exit 143' TERM HUP

case " $* " in
*" --list "* | *" --weir "*) ;;
*) [[ -x target/release/weir ]] || cargo build --release --locked ;;
esac

PYTHONDONTWRITEBYTECODE=1 python3 scripts/chaos/chaos.py --tag "$tag" --scratch "$scratch" "$@" &
series=$!
status=0
wait "$series" || status=$?
series=""
exit "$status"
