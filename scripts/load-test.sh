#!/usr/bin/env bash
# The reference's load test: 5 emitters, 4 weighted analyzers, about 2,500 messages/s; everything checked.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/load-test.sh [--seconds N] [--rate MSGS/S] [--shards N] [--weir PATH] [--keep DIR]

A distributor, four analyzers of weight 0.4, 0.3, 0.2 and 0.1, and five emitters that together send 2,500
messages/s of 256 B, all on loopback, on ports that are free. Every program writes a run report, and
`weir audit` joins them: no message missing, none twice without being known to be, shares as the weights say.

  --seconds N   how long to send (30)
  --rate N      messages per second of all five together (2500)
  --shards N    shards of the distributor (1)
  --weir PATH   the program (target/release/weir, which is built when it is not there)
  --keep DIR    run reports, journals and logs go there and stay (else a directory that is removed)

Exit status: 0 balanced; 1 not (missing, unrecognised duplicates, shares off their bound); 2 usage; 3 a program
did not start or did not end as it should.
TEXT
}

fail() { echo "load-test.sh: $2" >&2; exit "$1"; }

seconds=30 rate=2500 shards=1 weir="" dir=""
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --seconds | --rate | --shards)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || fail 2 "$1 '${2:-}': allowed is a whole number above 0"
        case "$1" in --seconds) seconds=$2 ;; --rate) rate=$2 ;; --shards) shards=$2 ;; esac
        shift
        ;;
    --weir | --keep)
        [[ -n ${2:-} ]] || fail 2 "$1: a path is missing"
        case "$1" in --weir) weir=$(realpath -m "$2") ;; --keep) dir=$2 ;; esac
        shift
        ;;
    *) fail 2 "unknown word '$1' (--help)" ;;
    esac
    shift
done
((rate >= 5)) || fail 2 "--rate $rate: five emitters send at least 5 messages a second"

cd "$(dirname "$0")/.."
if [[ -z $weir ]]; then
    weir=$PWD/target/release/weir
    [[ -x $weir ]] || cargo build --release --locked
fi
[[ -x $weir ]] || fail 2 "--weir $weir: there is no such program"

pids=()
# shellcheck disable=SC2317 # called by the trap
finish() {
    local pid
    # Our own children only, and only those that still run.
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    [[ -z ${scratch:-} ]] || rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 3' INT TERM
if [[ -z $dir ]]; then
    scratch=$(mktemp -d)
    dir=$scratch
else
    mkdir -p "$dir"
    [[ -z $(ls -A "$dir") ]] || fail 2 "--keep $dir: it holds something already"
fi

free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}
emitters=127.0.0.1:$(free_port)
analyzers=127.0.0.1:$(free_port)

# start NAME ARGS...: in the background, with its output in a file.
start() {
    local name=$1
    shift
    "$weir" "$@" >"$dir/$name.log" 2>&1 &
    pids+=($!)
}

# ended NAME PID: with 0, or the test is over.
ended() {
    local status=0
    wait "$2" || status=$?
    ((status == 0)) || { tail -n 20 "$dir/$1.log" >&2; fail 3 "$1 ended with $status"; }
}

until_logged() {
    for _ in $(seq 100); do
        (($(grep -c "$1" "$dir/$2.log" || true) >= $3)) && return
        sleep 0.1
    done
    tail -n 20 "$dir/$2.log" >&2
    fail 3 "'$1' did not come $3 times in $2.log within 10 s"
}

echo "load-test   $rate messages/s for $seconds s, 5 emitters, 4 analyzers, $shards shard(s)"
start distributor distributor --emitters "$emitters" --analyzers "$analyzers" --http off \
    --shards "$shards" --report "$dir/distributor.json"
distributor=${pids[0]}
weights=(0.4 0.3 0.2 0.1)
for n in 0 1 2 3; do
    start "analyzer-$n" analyzer --addr "$analyzers" --id "analyzer-$n" --weight "${weights[n]}" \
        --report "$dir/analyzer-$n.json"
done
until_logged "analyzer up" distributor $((4 * shards))
for n in 1 2 3 4 5; do
    # What does not divide by five falls to the first.
    part=$((rate / 5))
    ((n > 1)) || part=$((rate - 4 * part))
    start "emitter-$n" emitter --addr "$emitters" --id "emitter-$n" --rate "$part" --duration "$seconds" \
        --report "$dir/emitter-$n.json"
done
for n in 1 2 3 4 5; do ended "emitter-$n" "${pids[n + 4]}"; done
kill -TERM "$distributor"
ended distributor "$distributor"
for n in 0 1 2 3; do
    kill -TERM "${pids[n + 1]}" 2>/dev/null || true
    ended "analyzer-$n" "${pids[n + 1]}"
done
pids=()

status=0
"$weir" audit "$dir"/*.json || status=$?
exit "$status"
