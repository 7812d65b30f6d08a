#!/usr/bin/env bash
# Mutation tests of the engine: breaks src/engine or src/protocol in one place at a time and sees
# whether a test notices. Needs cargo-mutants. Arguments go to it:
#
#     scripts/mutants.sh                               everything
#     scripts/mutants.sh --file 'src/engine/**' -j2    the engine only, two at a time
#     scripts/mutants.sh --re 'in Lane::'
#
# Two passes: the first without what takes long, the second gives everything that lives the whole
# suite. Results: target/mutants/mutants.out, where previously_caught.txt is from the first.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/engine-crate.sh target/mutants/crate
# A mutant may ask for memory for ever, or loop: the whole suite takes 5 s of CPU time. Not by the
# clock, which says little on a busy machine. A test that is ended so counts as one that failed.
ulimit -v $((6 << 20)) -t 60
export FAIL_FAST=1
mutants() { nice -n 15 cargo mutants --dir target/mutants/crate --output target/mutants "$@"; }
# cargo-mutants says 2 when some live, 3 when some did not end.
may_live() { [ "$1" = 2 ] || [ "$1" = 3 ]; }

status=0
export CARGO_PROFILE_TEST_OPT_LEVEL=0 ENGINE_STORIES=150
mutants "$@" -- -- --skip not_bias_shares --skip cannot_fill_the_arena || status=$?
may_live $status || exit $status

unset ENGINE_STORIES
export CARGO_PROFILE_TEST_OPT_LEVEL=1
mutants "$@" --iterate
