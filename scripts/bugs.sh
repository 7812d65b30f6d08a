#!/usr/bin/env bash
# Are the tests worth anything? Puts each bug of tests/bugs into a worktree of HEAD, one at a time,
# runs the tests that its patch names, and prints which test caught it. Exit 0: all were caught.
#
#     scripts/bugs.sh                 all
#     scripts/bugs.sh <name> ...      these; without .patch
#     SIM_RUNS=500 scripts/bugs.sh    also that many runs of the simulator per bug
#
# The second line of a patch says `Tests: engine` for the crate of engine-crate.sh, or
# `Tests: <file of tests/> <test> ...`.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
work=$root/target/bugs
tree=$work/tree
log=$work/log
patience=${PATIENCE:-300}
mkdir -p "$work"
git worktree prune
[ -e "$tree" ] || git worktree add --quiet --detach "$tree" HEAD
git -C "$tree" checkout --quiet --force --detach "$(git rev-parse HEAD)"

clean() { git -C "$tree" checkout --quiet --force -- . && git -C "$tree" clean --quiet -fd; }

# What caught it: the first test that failed, and how many others did.
verdict() {
    local failed
    failed=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log")
    if [ "$1" = 124 ]; then
        echo "it hangs"
    elif [ -n "$failed" ]; then
        head -n 1 <<<"$failed" | tr '\n' ' '
        [ "$(wc -l <<<"$failed")" = 1 ] || echo "and $(($(wc -l <<<"$failed") - 1)) more"
    else
        echo "status $1"
    fi
}

# Runs a command; its output goes to the log.
logged() { timeout --kill-after=5 "$patience" nice -n 15 "$@" >"$log" 2>&1; }

# $1: what a patch's `Tests:` says. Status 0: passed, 1: failed, 2: does not build.
run_tests() {
    local status=0
    if [ "$1" = engine ]; then
        "$tree/scripts/engine-crate.sh" "$work/crate"
        cd "$work/crate"
        set -- --lib
    else
        cd "$tree"
        # shellcheck disable=SC2086 # a list of words
        set -- --locked --test $1
    fi
    export CARGO_TARGET_DIR=$work/target-$(basename "$PWD")
    local build=("$@") names=()
    if [ "$1" = --locked ]; then
        build=("${@:1:3}") names=("${@:4}")
    fi
    if ! nice -n 15 cargo test "${build[@]}" --no-run >"$log" 2>&1; then
        caught="DOES NOT BUILD"
        return 2
    fi
    logged cargo test "${build[@]}" -- "${names[@]}" || status=$?
    caught=$(verdict "$status")
    [ "$status" = 0 ] || return 1
}

run_sim() {
    cd "$tree"
    export CARGO_TARGET_DIR=$work/target-tree
    nice -n 15 cargo build --locked >"$log" 2>&1 || return 2
    local status=0
    logged "$CARGO_TARGET_DIR/debug/weir" sim --runs "$SIM_RUNS" || status=$?
    simulated=$([ "$status" = 0 ] && echo "not seen" || echo "seen")
}

if [ $# = 0 ]; then
    cd tests/bugs
    set -- *.patch
    cd "$root"
fi
clean
(run_tests engine) || { echo "the tests fail without a bug: $log"; exit 1; }

bad=0
printf '%-45s %5s  %s\n' bug s "caught by"
for name; do
    patch=$root/tests/bugs/${name%.patch}.patch
    began=$SECONDS caught="" simulated=""
    clean
    if ! git -C "$tree" apply "$patch" 2>"$log"; then
        caught="DOES NOT APPLY"
        bad=1
    else
        tests=$(sed -n 's/^Tests: //p' "$patch")
        status=0
        run_tests "$tests" || status=$?
        if [ "$status" = 0 ]; then
            caught="NOT CAUGHT by: $tests"
        fi
        [ "$status" = 1 ] || bad=1
        if [ -n "${SIM_RUNS:-}" ] && [ "$status" != 2 ]; then
            run_sim || simulated="does not build"
        fi
    fi
    cd "$root"
    printf '%-45s %5s  %s%s\n' "${name%.patch}" $((SECONDS - began)) "$caught" "${simulated:+; simulator: $simulated}"
done
clean
exit $bad
