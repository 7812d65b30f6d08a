#!/usr/bin/env bash
# The tiers of checks: what a contributor runs in seconds, in minutes, and what runs overnight.
set -uo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/check.sh fast | full | nightly [--list]

  fast      format, compile everything, unit tests: seconds once it is built
  full      what .ci/run does but for chart and containers: minutes
  nightly   simulator, bugs, mutants, sanitizers, fuzzers, chaos, systemd, chart, containers, minimum Rust version: hours

A check whose tool is not on this host is skipped, and named at the end. The first failure of fast and full
ends them; nightly goes on.

  --list    prints the commands and runs none

Exit status: 0 all passed (skipped ones are named), 1 one did not, 2 usage.
TEXT
}

tier="" list=no
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --list) list=yes ;;
    fast | full | nightly) tier=$1 ;;
    *) echo "check.sh: '$1': allowed: fast, full, nightly, --list, --help" >&2; exit 2 ;;
    esac
    shift
done
[[ -n $tier ]] || { echo "check.sh: which tier? allowed: fast, full, nightly" >&2; exit 2; }
cd "$(dirname "$0")/.." || exit 1

failed=() skipped=()

# run NAME COMMAND...: the line is printed as it can be typed.
run() {
    local name=$1
    shift
    echo "== $name: $*"
    [[ $list == no ]] || return 0
    if "$@"; then return 0; fi
    failed+=("$name")
    [[ $tier == nightly ]] || end
}

# needs NAME PROGRAM...: is all of it there?
needs() {
    local name=$1 program
    shift
    for program in "$@"; do
        command -v "$program" >/dev/null || { skipped+=("$name ($program)"); return 1; }
    done
}

end() {
    ((${#skipped[@]} == 0)) || printf 'skipped: %s\n' "${skipped[@]}"
    ((${#failed[@]} == 0)) || { printf 'failed: %s\n' "${failed[@]}"; exit 1; }
    exit 0
}

minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

case "$tier" in
fast)
    run format cargo fmt --all --check
    run compile cargo check --workspace --all-targets --locked
    run "unit tests" cargo test --workspace --lib --locked --quiet
    ;;
full)
    run format cargo fmt --all --check
    run lints cargo clippy --workspace --all-targets --locked -- -D warnings
    run tests cargo test --workspace --locked
    run documentation env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
    ;;
nightly)
    run build cargo build --release --workspace --locked
    run "tests, full size" env WEIR_FULL=1 cargo test --release --workspace --locked
    run simulator target/release/weir sim --runs 100000
    run bugs scripts/bugs.sh
    if needs mutants cargo-mutants; then run mutants scripts/mutants.sh; fi
    run AddressSanitizer scripts/sanitize.sh address
    if [[ $list == yes ]] || cargo +nightly --version >/dev/null 2>&1; then
        run Miri scripts/sanitize.sh miri
        if needs fuzzers cargo-fuzz; then run fuzzers scripts/fuzz.sh 10; fi
    else
        skipped+=("Miri and fuzzers (a nightly toolchain)")
    fi
    if needs instructions valgrind; then run instructions scripts/instructions.sh check; fi
    if needs advisories cargo-deny; then run advisories cargo deny check; fi
    if [[ $list == yes ]] || cargo "+$minimum" --version >/dev/null 2>&1; then
        run "minimum Rust" cargo "+$minimum" check --workspace --all-targets --locked
    else
        skipped+=("minimum Rust (toolchain $minimum)")
    fi
    if needs chaos ip python3; then run chaos scripts/chaos.sh --runs 3 --weir target/release/weir; fi
    if needs systemd unshare dpkg-deb; then run systemd scripts/systemd-test.sh --weir target/release/weir; fi
    if [[ $list == yes ]] || python3 -c 'import helm_python, kubernetes_validate' 2>/dev/null; then
        run chart scripts/chart-test.py --weir target/release/weir
    else
        skipped+=("chart (pip install -r scripts/chart/requirements.txt)")
    fi
    if needs containers dockerd docker-compose mmdebstrap; then run containers scripts/containers-test.sh; fi
    run soak scripts/soak.sh --minutes 60 --weir target/release/weir --out target/soak
    ;;
esac
end
