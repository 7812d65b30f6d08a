#!/usr/bin/env bash
# Are the tests worth anything? Puts each bug of tests/bugs into a worktree of HEAD, one at a time,
# runs the tests that its patch names, and prints which of them caught it. Exit status: 0 all were caught, 1 one was not.
#
# Usage:
#     scripts/bugs.sh                 all
#     scripts/bugs.sh <name> ...      these
#     SIM_RUNS=500 scripts/bugs.sh    also that many runs of the simulator for every bug
#
# The second line of a patch says `Tests: engine` for the tests of the pure crates, `Tests: sim <n>`
# for n runs of the simulator, or `Tests: <file of tests/> <test> ...`.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."
root=$PWD
work=$root/target/bugs
tree=$work/tree
log=$work/log
mkdir -p "$work"
git worktree prune
[ -e "$tree" ] || git worktree add --quiet --detach "$tree" HEAD
git -C "$tree" checkout --quiet --force --detach "$(git rev-parse HEAD)"

mend() {
    git -C "$tree" checkout --quiet --force -- .
    git -C "$tree" clean --quiet --force -d
}

# Runs cargo in $1 with its own target folder; what it says goes to the log.
in_folder() {
    local folder=$1
    shift
    (cd "$folder" && CARGO_TARGET_DIR=$work/target-$(basename "$folder") \
        timeout --kill-after=5 "${PATIENCE:-600}" nice -n 10 "$@" >"$log" 2>&1)
}

# Sets `caught` from a status and the log: the first test that failed, and how many others did.
judge() {
    local failed count
    failed=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log")
    count=$(grep -c . <<<"$failed" || true)
    case $1/$count in
        124/*) caught="it hangs" ;;
        */0) caught="it ends with status $1" ;;
        */1) caught=$failed ;;
        *) caught="$(head -n 1 <<<"$failed") and $((count - 1)) more" ;;
    esac
}

# Builds and tests in folder $1 with the arguments before `--`, and those behind it for the tests.
# Status 0: passed, 1: caught, 2: does not build.
try() {
    local folder=$1 status=0 build=()
    shift
    while [ "$1" != -- ]; do
        build+=("$1")
        shift
    done
    if ! in_folder "$folder" cargo test "${build[@]}" --no-run; then
        caught="DOES NOT BUILD"
        return 2
    fi
    in_folder "$folder" cargo test --no-fail-fast "${build[@]}" "$@" || status=$?
    [ "$status" != 0 ] || return 0
    judge $status
    return 1
}

# The engine's tests: first without what takes long, then all.
try_engine() {
    local status=0
    local pure=(--locked -p weir-protocol -p weir-source -p weir-sink -p weir-http -p weir-engine)
    ENGINE_STORIES=150 \
        try "$tree" "${pure[@]}" -- --skip not_bias_shares --skip cannot_fill_the_arena || status=$?
    [ $status = 0 ] || return $status
    try "$tree" "${pure[@]}" --
}

try_bug() {
    local words
    read -ra words <<<"$1"
    if [ "${words[0]}" = engine ]; then
        try_engine
    elif [ "${words[0]}" = sim ]; then
        try_sim "${words[1]}"
    else
        try "$tree" --locked --test "${words[0]}" -- "${words[@]:1}"
    fi
}

# $1 runs of the simulator, always with the same seeds.
try_sim() {
    local status=0
    if ! in_folder "$tree" cargo build --locked; then
        caught="DOES NOT BUILD"
        return 2
    fi
    in_folder "$tree" "$work/target-tree/debug/weir" sim --no-shrink --seed 1 --runs "$1" || status=$?
    [ $status != 0 ] || return 0
    caught="simulator, $(grep -oE 'seed [0-9]+' "$log" | head -n 1)"
    return 1
}

simulate() {
    local status=0 by=$caught
    try_sim "$SIM_RUNS" || status=$?
    case $status in
        0) seen=no ;;
        *) seen=$caught ;;
    esac
    caught=$by
}

if [ $# = 0 ]; then
    names=(tests/bugs/*.patch)
    names=("${names[@]##*/}")
    set -- "${names[@]%.patch}"
fi
mend
if ! try_engine; then
    echo "the tests fail without a bug: $log"
    exit 1
fi

all_caught=0
printf '%-45s %5s  %s\n' bug s "caught by"
for name; do
    patch=$root/tests/bugs/$name.patch
    began=$SECONDS status=0 seen=
    mend
    if git -C "$tree" apply "$patch" 2>"$log"; then
        tests=$(sed -n 's/^Tests: //p' "$patch")
        try_bug "$tests" || status=$?
        [ $status != 0 ] || caught="NOT CAUGHT by $tests"
        [ -z "${SIM_RUNS:-}" ] || [ $status = 2 ] || simulate
    else
        status=2
        caught="DOES NOT APPLY"
    fi
    [ $status = 1 ] || all_caught=1
    printf '%-45s %5s  %s%s\n' "$name" $((SECONDS - began)) "$caught" "${seen:+; simulator: $seen}"
done
mend
exit $all_caught
