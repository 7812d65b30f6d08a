#!/usr/bin/env bash
# Fuzzes the targets of fuzz/ with cargo-fuzz, see docs/FUZZING.md.
#
# Usage:
#   scripts/fuzz.sh [minutes] [target...]    each target for so long (10), all targets by default. Minutes of CPU time,
#                                            so that what else runs on the machine shortens nothing
#   scripts/fuzz.sh keep [target...]         puts the smallest inputs that reach something new into the corpus
#
# FUZZ_JOBS       targets at a time (1)
# FUZZ_SANITIZER  none (default) or address: the targets run no unsafe code of Weir's, so none is faster
#
# New inputs are kept in fuzz/work, inputs that are findings in fuzz/artifacts. Exit status: 0 nothing was
# found, 1 something was, 2 something is missing.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."

: "${FUZZ_JOBS:=1}" "${FUZZ_SANITIZER:=none}"
readonly ALL=(frames sources control native detect values arguments tree link engine config http proxy dns
    syslog lines ndjson gelf forward lumberjack relp hear_forward hear_lumberjack hear_relp hear_lines requests tls)
# Kept in the repository per target: all corpora together stay below 300 KiB, and a folder readable.
readonly KEPT_BYTES_MAX=24576 KEPT_FILES_MAX=200
readonly INPUT_BYTES_MAX=2048
# Exit status of a fuzzer whose time was over.
readonly INTERRUPTED=72

need() {
    echo "fuzz.sh: $1 is missing. To install it: $2" >&2
    exit 2
}
rustup run nightly rustc --version >/dev/null 2>&1 ||
    need "a nightly toolchain" "rustup toolchain install nightly"
cargo fuzz --version >/dev/null 2>&1 ||
    need "cargo-fuzz" "cargo install cargo-fuzz"

mode=run minutes=10
case "${1-}" in
keep) mode=keep && shift ;;
[0-9]*) minutes=$1 && shift ;;
esac
[[ $minutes =~ ^[0-9]+$ ]] || { echo "fuzz.sh: $minutes: whole minutes allowed" >&2; exit 2; }
targets=("$@")
[[ ${#targets[@]} -gt 0 ]] || targets=("${ALL[@]}")
for target in "${targets[@]}"; do
    [[ " ${ALL[*]} " == *" $target "* ]] ||
        { echo "fuzz.sh: no target $target (there are: ${ALL[*]})" >&2; exit 2; }
done

triple=$(rustup run nightly rustc -vV | sed -n 's/^host: //p')
cargo +nightly fuzz build -s "$FUZZ_SANITIZER"
readonly BINARIES=fuzz/target/$triple/release

# User and system time of a process in whole seconds; the second argument when it is gone.
cpu_seconds() {
    local fields
    { read -r -a fields <"/proc/$1/stat"; } 2>/dev/null || { echo "$2" && return; }
    echo $(((fields[13] + fields[14]) / $(getconf CLK_TCK)))
}

run_one() {
    local target=$1 work=fuzz/work/$1 artifacts=fuzz/artifacts/$1
    mkdir -p "$work" "$artifacts"
    local status=ok
    "$BINARIES/$target" -max_len=$INPUT_BYTES_MAX -timeout=60 \
        -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$artifacts/" \
        "$work" "fuzz/corpus/$target" >"$work.log" 2>&1 &
    local fuzzer=$! used=0
    while [[ $used -lt $((minutes * 60)) ]] && kill -0 $fuzzer 2>/dev/null; do
        sleep 1
        used=$(cpu_seconds $fuzzer "$used")
    done
    kill -INT $fuzzer 2>/dev/null || true
    local ended=0
    wait $fuzzer || ended=$?
    [[ $ended == 0 || $ended == "$INTERRUPTED" ]] || status=FINDING
    stat() { sed -n "s/^stat::$1: *//p" "$work.log"; }
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$work.log" | tail -1)
    printf '%-10s %-8s %12s executions %6s CPU s %6s edges %6s inputs\n' "$target" $status \
        "$(stat number_of_executed_units)" "$used" "$edges" "$(find "$work" -type f | wc -l)"
    [[ $status == ok ]] || { grep -m 1 -A 2 -E 'panicked|ERROR: ' "$work.log"; return 1; }
}

# The fewest inputs that reach everything; of these as many as the repository has room for, of all sizes.
keep_one() {
    local target=$1 merged
    merged=$(mktemp -d)
    "$BINARIES/$target" -set_cover_merge=1 -max_len=1024 "$merged" "fuzz/corpus/$target" "fuzz/work/$target" 2>/dev/null
    find "fuzz/corpus/$target" -type f -regex '.*/[0-9a-f]+' -delete
    local bytes=0 size file seeds step
    step=$(($(find "$merged" -type f | wc -l) / KEPT_FILES_MAX + 1))
    seeds=$(for file in "fuzz/corpus/$target"/*; do sha1sum <"$file"; done)
    while read -r size file; do
        bytes=$((bytes + size))
        [[ $bytes -le $KEPT_BYTES_MAX ]] || break
        # Seeds are there under their names already.
        grep -qxF "$(sha1sum <"$file")" <<<"$seeds" || cp "$file" "fuzz/corpus/$target/"
    done < <(find "$merged" -type f -printf '%s %p\n' | sort -n | awk "NR % $step == 0")
    rm -r "$merged"
    echo "$target: $(find "fuzz/corpus/$target" -type f | wc -l) inputs"
}

failed=0
running=0
for target in "${targets[@]}"; do
    if [[ $mode == keep ]]; then
        keep_one "$target"
        continue
    fi
    if [[ $running -ge $FUZZ_JOBS ]]; then
        wait -n || failed=1
        running=$((running - 1))
    fi
    run_one "$target" &
    running=$((running + 1))
done
while [[ $running -gt 0 ]]; do
    wait -n || failed=1
    running=$((running - 1))
done
exit $failed
