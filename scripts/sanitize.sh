#!/usr/bin/env bash
# Runs tests under Miri and AddressSanitizer, see docs/FUZZING.md. Miri needs a nightly toolchain;
# AddressSanitizer takes the one that there is.
#
# Usage:
#   scripts/sanitize.sh [miri] [address]    both by default
#
# Exit status: 0 nothing was found, 2 something is missing, otherwise that of the tests.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."

need() {
    echo "sanitize.sh: $1 is missing. To install it: $2" >&2
    exit 2
}
# The pure layers: what they do is the same on any machine, so an interpreter can run them. Property
# tests get few cases: Miri is some thousand times slower. Isolation is off because they ask for the
# directory of their regressions.
miri() {
    rustup run nightly rustc --version >/dev/null 2>&1 ||
        need "a nightly toolchain" "rustup toolchain install nightly"
    rustup component list --toolchain nightly | grep -q '^miri.*(installed)' ||
        need "Miri" "rustup component add miri rust-src --toolchain nightly"
    PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation CARGO_TARGET_DIR=target/miri \
        cargo +nightly miri test --lib --locked -p weir-protocol -p weir-source -p weir-engine
}

# The ring layer has all unsafe code: the whole binary is built with the sanitizer, and the tests that
# send real traffic through it run. Not `allocations`, which has an allocator of its own, not the two that
# hold the process to so many resident bytes (the sanitizer keeps freed memory back), and not the two that
# show that memory is leaked on purpose while the kernel may still read it.
#
# The sanitizer's runtime comes with every toolchain; only the flag that asks for it is nightly's.
address() {
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p')
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_stack_use_after_return=1 CARGO_TARGET_DIR=target/asan \
        cargo test --target "$triple" --locked -p weir -p weir-runtime \
        --lib --test delivery --test failures --test bad_input --test clients --test demo -- \
        --skip a_slow_analyzer_slows_emitters_down_within_bounded_memory \
        --skip without_an_analyzer_emitters_are_held_back_and_nothing_is_lost \
        --skip a_write_to_a_disk_that_hangs_reads_what_it_was_given \
        --skip what_was_not_given_back_is_never_freed
}

[[ $# -gt 0 ]] || set -- miri address
for what in "$@"; do
    case $what in
    miri | address) "$what" ;;
    *) echo "sanitize.sh: $what: miri or address allowed" >&2; exit 2 ;;
    esac
done
