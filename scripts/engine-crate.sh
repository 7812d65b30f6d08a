#!/usr/bin/env bash
# Writes a crate that holds src/engine, src/http, src/protocol and every test that needs nothing else, all in
# one test binary. The engine needs neither the ring nor the
# runtime, so the crate is built and tested in seconds. For mutants.sh and bugs.sh.
#
# Usage: scripts/engine-crate.sh <folder>
#
# Exit status: 0 written, 1 not. With FAIL_FAST=1 in its environment the test binary ends with the first test that fails.
set -euo pipefail
case "${1:-}" in -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
mkdir -p "$1"
crate=$(realpath "$1")
cd "$(dirname "$0")/.."
rm -rf "$crate/src" "$crate/tests" "$crate/docs" "$crate/.cargo"
mkdir "$crate/src" "$crate/tests" "$crate/docs"
cp -r src/engine src/http src/protocol "$crate/src/"
cp -r tests/engine tests/shares.rs tests/protocol_vectors.rs tests/allocations.rs "$crate/tests/"
cp docs/PROTOCOL.md "$crate/docs/"
cp -r .cargo "$crate/"
[ -e "$crate/Cargo.lock" ] || cp Cargo.lock "$crate/"

cat > "$crate/Cargo.toml" <<'TOML'
[package]
name = "weir"
version = "0.1.0"
edition = "2021"
publish = false
autotests = false

[workspace]

[lib]
doctest = false

[dependencies]
hdrhistogram = { version = "7.5", default-features = false, features = ["serialization"] }
TOML
# What src/http needs, as Weir has it.
grep -E '^(serde|serde_json|httparse|base64|flate2|memchr|zstd-safe) =' Cargo.toml >> "$crate/Cargo.toml"
cat >> "$crate/Cargo.toml" <<'TOML'

[dev-dependencies]
proptest = { version = "1", default-features = false, features = ["std"] }

# Overflow checks and debug assertions stay on.
[profile.test]
opt-level = 1
debug = false
[profile.test.package."*"]
opt-level = 3
TOML

cat > "$crate/src/lib.rs" <<'RUST'
//! The pure layers and their tests, in one binary.
pub mod engine;
pub mod http;
pub mod protocol;

#[cfg(test)]
extern crate self as weir;
#[cfg(test)]
#[path = "../tests/allocations.rs"]
mod allocations;
#[cfg(test)]
#[path = "../tests/engine/cases.rs"]
mod cases;
#[cfg(test)]
#[path = "../tests/engine/shares.rs"]
mod engine_shares;
#[cfg(test)]
#[path = "../tests/engine/limits.rs"]
mod limits;
#[cfg(test)]
#[path = "../tests/engine/model.rs"]
mod model;
#[cfg(test)]
#[path = "../tests/protocol_vectors.rs"]
mod protocol_vectors;
#[cfg(test)]
#[path = "../tests/engine/rig.rs"]
mod rig;
#[cfg(test)]
#[path = "../tests/shares.rs"]
mod tree_shares;
#[cfg(test)]
#[path = "../tests/engine/units.rs"]
mod units;

#[cfg(test)]
mod fail_fast {
    /// What tests expect when they expect a panic.
    const EXPECTED: [&str; 3] = ["given back twice", "the limit is 65536", "than held"];

    extern "C" fn start() {
        if std::env::var_os("FAIL_FAST").is_none() {
            return;
        }
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            usual(panic);
            let text = panic.to_string();
            if !EXPECTED.iter().any(|expected| text.contains(expected)) {
                std::process::exit(101);
            }
        }));
    }

    #[used]
    #[link_section = ".init_array"]
    static START: extern "C" fn() = start;
}
RUST
