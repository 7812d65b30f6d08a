# Short names for what CONTRIBUTING.md describes. `just` is a convenience: each line works without it.

# what there is
default:
    @just --list

# seconds, before each commit
fast:
    scripts/check.sh fast

# minutes, before each push
full:
    scripts/check.sh full

# hours: simulator, fuzzers, sanitizers, mutants, chaos
nightly:
    scripts/check.sh nightly

# the whole thing on loopback in ten seconds
demo *arguments:
    cargo run --release -- demo {{arguments}}

# documentation of the code, in a browser
doc:
    cargo doc --workspace --no-deps --open

# five emitters, four analyzers, judged by `weir audit`
load-test *arguments:
    scripts/load-test.sh {{arguments}}
