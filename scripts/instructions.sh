#!/usr/bin/env bash
# Instructions per message of the hot path's pieces: a cost that a busy machine cannot blur.
set -euo pipefail

PIECES=(frame tree-4 tree-64 tree-1000 ingest cycle compact syslog counted acked lumberjack relp forward bulk otlp loki ndjson to-forward to-lumberjack to-relp ack copy)
MESSAGES=32000
BASELINE=bench/instructions.toml

usage() {
    cat <<'TEXT'
Usage: scripts/instructions.sh check     count, and compare with bench/instructions.toml
       scripts/instructions.sh record    count, and write bench/instructions.toml
       scripts/instructions.sh show      count

Counts instructions by callgrind (valgrind), for 32,000 and for 64,000 messages of 256 B; the difference is
free of start-up, divided by 32,000 it is the cost of a message. The pieces, see src/engine/examples/instructions.rs:

  frame      the length word of a frame            tree-n   the choice among n analyzers
  ingest     frame, choice, copy into a batch      cycle    the same, sent and ACKed in batches of 64
  compact    cycle towards reference clients       copy     the copy of 256 B alone
  ack        a compact ACK, from bytes to credit
  syslog     cycle with lines of syslog of 256 B    counted  cycle with counted messages of syslog
  acked      cycle with an emitter that wants ACKs, in batches of 64
  lumberjack the same with windows of 64 events        relp     the same with 64 messages of RELP
  forward    the same with packed chunks of 256 entries in two receives, rendered as JSON
  bulk       bodies of _bulk made of 64 records of text of 256 B; otlp, loki, ndjson the same in those formats
  to-forward chunks of 64 records of text for a server of Forward, and its acks; to-lumberjack, to-relp the same

What is compiled is src/engine and what it stands on, optimised as packages are, below target/instructions: seconds, not
minutes. Counts depend on compiler, C library and the CPU that valgrind
shows. The baseline names them: with the same ones a piece may cost 5 % more than recorded, with others 25 %.
Record after a change that is meant to cost or to save, and say so in the commit.

Exit status: 0 within bounds (or recorded, or shown), 1 a piece costs more (named), 2 usage, or valgrind,
cargo or the baseline is missing, 3 a piece does not run.
TEXT
}

fail() { echo "instructions.sh: $2" >&2; exit "$1"; }

# What the counts depend on, besides the source.
environment() {
    local libc cpu=plain
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || echo unknown)
    for flag in avx2 avx512vl erms; do
        grep -qw "$flag" /proc/cpuinfo && cpu+="+$flag"
    done
    echo "$(rustc --version), $(rustc -vV | sed -n 's/^host: //p'), $libc, $(valgrind --version), $cpu"
}

build() {
    # As it is packaged.
    CARGO_TARGET_DIR=target/instructions cargo build --quiet --locked --profile dist -p weir-engine --example instructions ||
        fail 3 "the pieces do not compile"
}

# Instructions of one run.
run() {
    local out
    out=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        target/instructions/dist/examples/instructions "$1" "$2" 2>&1) ||
        { echo "$out" >&2; fail 3 "'$1' does not run"; }
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' <<<"$out"
}

count() {
    local once twice
    once=$(run "$1" "$MESSAGES")
    twice=$(run "$1" $((2 * MESSAGES)))
    [[ -n $once && -n $twice ]] || fail 3 "valgrind printed no count for '$1'"
    awk -v a="$once" -v b="$twice" -v n="$MESSAGES" 'BEGIN { printf "%.1f", (b - a) / n }'
}

recorded() { sed -n "s/^$1 = \"\\{0,1\\}\\([^\"]*\\)\"\\{0,1\\}$/\\1/p" "$BASELINE"; }

check() {
    local bound=5 status=0 piece now was verdict
    [[ -r $BASELINE ]] || fail 2 "$BASELINE is missing: scripts/instructions.sh record"
    if [[ $(recorded environment) != "$(environment)" ]]; then
        bound=25
        echo "recorded with: $(recorded environment)"
        echo "counted with:  $(environment)"
        echo "they differ, so a piece may cost $bound % more"
    fi
    printf '%-13s %12s %12s %9s\n' piece recorded now change
    for piece in "${PIECES[@]}"; do
        was=$(recorded "$piece")
        [[ -n $was ]] || fail 2 "$BASELINE has no '$piece': scripts/instructions.sh record"
        now=$(count "$piece")
        # A piece of a few instructions may grow by one.
        verdict=$(awk -v a="$was" -v b="$now" -v p="$bound" \
            'BEGIN { c = (b / a - 1) * 100; printf "%+.1f %% %s", c, (b > a * (1 + p / 100) && b > a + 1) ? "TOO MUCH" : "" }')
        printf '%-13s %12s %12s %9s\n' "$piece" "$was" "$now" "$verdict"
        [[ $verdict == *TOO* ]] && status=1
    done
    ((status == 0)) || echo "instructions.sh: a piece costs over $bound % more than recorded" >&2
    return "$status"
}

record() {
    local piece
    {
        echo "# Instructions per message, by scripts/instructions.sh record; check compares with them."
        echo "environment = \"$(environment)\""
        for piece in "${PIECES[@]}"; do echo "$piece = $(count "$piece")"; done
    } >"$BASELINE.new"
    mv "$BASELINE.new" "$BASELINE"
    cat "$BASELINE"
}

cd "$(dirname "$0")/.."
[[ $# -eq 1 ]] || { usage >&2; exit 2; }
case "$1" in
-h | --help) usage; exit 0 ;;
check | record | show) ;;
*) fail 2 "unknown word '$1': allowed are check, record, show (--help)" ;;
esac
for tool in valgrind cargo rustc; do
    command -v "$tool" >/dev/null || fail 2 "$tool is missing (Debian: apt-get install valgrind)"
done
build
case "$1" in
check) check ;;
record) record ;;
show) for piece in "${PIECES[@]}"; do printf '%-13s %12s\n' "$piece" "$(count "$piece")"; done ;;
esac
