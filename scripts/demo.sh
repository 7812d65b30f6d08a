#!/usr/bin/env bash
# The whole thing on loopback in ten seconds: `weir demo`, built first if it has to be.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/demo.sh [--weir PATH] [ARGUMENTS OF weir demo]

Two emitters, a distributor and four weighted analyzers, drawn while they run. One analyzer is killed on
the way; its messages go to the others. At the end it says whether anything was lost and whether the shares
were exact. Arguments go to `weir demo`: --duration 30s, --rate 50000, --shards 2 (weir demo --help).

  --weir PATH   the program (target/release/weir, which is built when it is not there)

Exit status, as of weir demo: 0 every check held, 1 one did not, 2 usage, 130 interrupted.
TEXT
}

weir="" rest=()
while (($#)); do
    case "$1" in
    -h | --help) usage; exit 0 ;;
    --weir)
        [[ -n ${2:-} ]] || { echo "demo.sh: --weir: a path is missing" >&2; exit 2; }
        weir=$(realpath -m "$2")
        shift
        ;;
    *) rest+=("$1") ;;
    esac
    shift
done
cd "$(dirname "$0")/.."
if [[ -z $weir ]]; then
    weir=target/release/weir
    [[ -x $weir ]] || cargo build --release --locked
fi
[[ -x $weir ]] || { echo "demo.sh: --weir $weir: there is no such program" >&2; exit 2; }
exec "$weir" demo "${rest[@]}"
