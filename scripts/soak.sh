#!/usr/bin/env bash
# Hours of load with churn of everything: memory, descriptors and latency must stay flat.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/soak.sh [--minutes N] [--rate MSGS/S] [--out PREFIX] [--size BYTES] [--cores LIST]
                       [--client-cores LIST] [--seed N] [--weir PATH]

One distributor on --cores (0), everything else on --client-cores (1), all on loopback. Emitters connect,
send and close, or die in the middle of a frame; analyzers are killed, stopped for longer than they may
be, leave in order, and come back with another weight and dialect. One is left alone: its delays are drawn.

  --minutes N      how long (60)
  --rate MSGS/S    load of the steady emitters; 0: half of what goes through when flooded for 8 s (0)
  --out PREFIX     writes PREFIX.csv (a sample every 2 s) and PREFIX.svg (soak)
  --size BYTES     payload (200)
  --seed N         repeats the churn of an earlier run; printed at the start

Judged: `weir audit` says balanced over the run reports and journals of everything that ran (below TMPDIR
while it runs), and the medians of the first and the last sixth of the samples: resident memory,
descriptors and threads within 2 %, the median delay within 1.5 times plus 0.5 ms, and never 15 s without a
message for the analyzer that is left alone.
Ctrl-C ends it early, with a verdict. Exit status: 0 all of it holds, 1 not, 2 usage.
TEXT
}

for word in "$@"; do
    case "$word" in -h | --help) usage; exit 0 ;; esac
done

cd "$(dirname "$0")/.."
case " $* " in
*" --weir "*) ;;
*) [[ -x target/release/weir ]] || cargo build --release --locked ;;
esac
PYTHONDONTWRITEBYTECODE=1 exec python3 scripts/chaos/soak.py "$@"
