"""Runs scenarios and prints one row of figures for each. Started by `scripts/chaos.sh`, which see."""

import argparse
import concurrent.futures
import json
import os
import random
import sys
import traceback

import net
import orders  # registers its scenarios
import over_http  # registers its scenarios
import scenarios
from rig import Rig
from tls import Tls

HOSTS = ("e", "a1", "a2", "a3")
HEAD = ("scenario", "runs", "messages", "missing", "not taken", "twice", "of them flagged", "re-routed",
        "found ms p50/max", "re-route ms p50/max", "verdict")


def arguments():
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="scripts/chaos.sh", allow_abbrev=False)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--weir", default="target/release/weir")
    parser.add_argument("--keep", metavar="DIR")
    parser.add_argument("--tls", action="store_true")
    # Given by chaos.sh, which removes all that bears this name, and the folder, whatever becomes of this.
    parser.add_argument("--tag", required=True)
    parser.add_argument("--scratch", required=True)
    return parser.parse_args()


def play(args, scenario, index, directory):
    """One run; an outcome, or Skip."""
    rng = random.Random(f"{args.seed}/{scenario.name}/{index}")
    variant = scenario.variants[index % len(scenario.variants)]
    hosts = getattr(scenario.play, "hosts", HOSTS)
    place = os.path.join(directory, f"{scenario.name}-{index}")
    rig = Rig(f"{args.tag}-{scenario.name}-{index}", place, args.weir, variant, index, rng, hosts, args.tls)
    try:
        rig.up()
        scenario.play(rig)
    except scenarios.Skip:
        raise
    except Exception as error:  # a run that cannot go on has failed; the series goes on
        where = traceback.extract_tb(error.__traceback__)[-1]
        rig.problem(f"{error} ({os.path.basename(where.filename)}:{where.lineno})")
    finally:
        rig.dispose(keep=bool(rig.outcome.problems) and bool(args.keep))
    rig.outcome.notes.insert(0, f"{variant[0]} shards, {variant[1]}")
    return rig.outcome


def percentile(values, share):
    """Nearest rank; None of nothing."""
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else None


def times(values):
    """p50/max in milliseconds."""
    if not values:
        return "-"
    return f"{percentile(values, 0.5) / 1e6:.1f}/{max(values) / 1e6:.1f}"


def row(scenario, outcomes, skipped):
    """The figures of a series."""
    if skipped:
        return (scenario.name, *["-"] * (len(HEAD) - 2), f"SKIPPED: {skipped}")
    failed = sum(bool(o.problems) for o in outcomes)
    missing = sum(o.missing for o in outcomes)
    native = [o for o in outcomes if o.recognisable]
    twice, flagged = sum(o.duplicates for o in native), sum(o.recognised for o in native)
    return (
        scenario.name, str(len(outcomes)), str(sum(o.sent for o in outcomes)), str(missing),
        str(sum(o.not_taken for o in outcomes)), str(sum(o.duplicates for o in outcomes)),
        f"{flagged} of {twice}", str(sum(o.rerouted for o in outcomes)),
        times([t for o in outcomes for t in o.detect_ns]),
        times([t for o in outcomes for t in o.reroute_ns]),
        "ok" if not failed else f"FAILED {failed} of {len(outcomes)}",
    )


def print_table(rows):
    """Aligned columns."""
    widths = [max(len(r[i]) for r in [HEAD, *rows]) for i in range(len(HEAD))]
    for r in [HEAD, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(r, widths)).rstrip())


def gather(scenario, runs):
    """All runs of one scenario as they end: outcomes, or why it was skipped."""
    outcomes = []
    for index, run in enumerate(runs):
        try:
            outcome = run.result()
        except scenarios.Skip as why:
            return [], str(why)
        outcomes.append(outcome)
        for problem in outcome.problems:
            print(f"  {scenario.name} run {index} ({outcome.notes[0]}): {problem}", flush=True)
    return outcomes, None


def play_all(args, chosen, directory):
    """(scenario, outcomes, why skipped) of each."""
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        runs = {}
        for scenario in chosen:
            if scenarios.lacks(scenario) is None:
                runs[scenario.name] = [pool.submit(play, args, scenario, i, directory) for i in range(args.runs)]
        for scenario in chosen:
            tool = scenarios.lacks(scenario)
            outcomes, skipped = ([], f"'{tool}' is missing") if tool else gather(scenario, runs[scenario.name])
            yield scenario, outcomes, skipped


def main():
    args = arguments()
    if args.list:
        for scenario in scenarios.SCENARIOS:
            print(f"{scenario.name:22} {scenario.what}")
        return 0
    unknown = [name for name in args.scenario if scenarios.named(name) is None]
    if unknown:
        print(f"chaos: no scenario '{unknown[0]}' (see --list)", file=sys.stderr)
        return 2
    try:
        net.permitted()
    except net.NotPermitted as why:
        print(f"chaos: {why}", file=sys.stderr)
        return 4
    args.seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 32)
    chosen = [s for s in scenarios.SCENARIOS if not args.scenario or s.name in args.scenario]
    print(f"seed {args.seed}, {args.runs} runs of each, {args.jobs} at a time", flush=True)
    rows, report, is_bad = [], [], False
    # A folder of its own for each series: records of an earlier one would count as duplicates.
    directory = os.path.join(args.keep, args.tag) if args.keep else args.scratch
    os.makedirs(directory, exist_ok=True)
    args.tls = Tls(args.weir, args.scratch) if args.tls else None
    for scenario, outcomes, skipped in play_all(args, chosen, directory):
        rows.append(row(scenario, outcomes, skipped))
        is_bad |= any(o.problems for o in outcomes)
        print(f"  {scenario.name}: {rows[-1][-1]}", flush=True)
        report.append({"scenario": scenario.name, "skipped": skipped, "runs": [vars(o) for o in outcomes]})
    print()
    print_table(rows)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"seed": args.seed, "scenarios": report}, file, indent=1)
    return 1 if is_bad else 0


sys.exit(main())
