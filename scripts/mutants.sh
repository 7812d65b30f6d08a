#!/usr/bin/env bash
# Mutation tests of the engine: breaks src/engine, src/sink or src/protocol in one place at a time and sees
# whether a test notices. Needs cargo-mutants. Arguments go to it:
#
# Usage:
#     scripts/mutants.sh                               everything
#     scripts/mutants.sh --file 'src/engine/**'        the engine only
#     scripts/mutants.sh --re 'in Lane::'
#     scripts/mutants.sh --iterate                     only what was not caught before
#     MUTANTS_DIR=target/half scripts/mutants.sh --shard 0/2      one of two at the same time
#
# Two passes: the first without what takes long, the second gives everything that lives the whole
# suite. Results: target/mutants/mutants.out, where previously_caught.txt is from the first.
# Exit status: 0 all were caught, otherwise that of cargo-mutants: 2 some live, 3 some did not end.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."
dir=${MUTANTS_DIR:-target/mutants}
# A mutant may ask for memory for ever, or loop: the whole suite takes 5 s of CPU time. Not by the
# clock, which says little on a busy machine. A test that is ended so counts as one that failed.
ulimit -v $((6 << 20)) -t 60
mutants() {
    nice -n 15 cargo mutants -p weir-protocol -p weir-sink -p weir-engine --test-package weir-protocol,weir-sink,weir-engine,weir-http \
        --output "$dir" "$@"
}
# cargo-mutants says 2 when some live, 3 when some did not end.
may_live() { [ "$1" = 2 ] || [ "$1" = 3 ]; }

status=0
export ENGINE_STORIES=150
mutants "$@" -- -- --skip not_bias_shares --skip cannot_fill_the_arena || status=$?
may_live $status || exit $status

unset ENGINE_STORIES
mutants "$@" --iterate
