//! The simulator in the test suite: two thousand runs, and proof that a seed decides everything and
//! that a topology is played.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use weir::sim::{run, Plan, Topology};

/// Seeds of the runs below: fixed, so that a change is judged by the same runs as the last one.
/// `weir sim` draws fresh ones.
const SEED_FIRST: u64 = 77_000_000;
const RUNS: u64 = 2_000;

#[test]
fn two_thousand_runs() {
    let next = AtomicU64::new(0);
    let work = || {
        let mut failures = Vec::new();
        let mut messages = 0;
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= RUNS {
                return (failures, messages);
            }
            let seed = SEED_FIRST + number;
            match run(&Plan::from_seed(seed)) {
                Ok(run) => messages += run.messages,
                Err(what) => failures.push(format!("weir sim --seed {seed}: {what}")),
            }
        }
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .map(|w| w.join().expect("no panic"))
            .collect()
    });
    let failures: Vec<String> = results
        .iter()
        .flat_map(|(found, _)| found.clone())
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    let messages: u64 = results.iter().map(|(_, messages)| messages).sum();
    assert!(messages > 100 * RUNS, "{messages} messages prove little");
}

/// What fresh seeds found: a post was set aside for a 404 because the analyzer had "taken others since", by an
/// answer to an older request that came in late; a refused post and a re-route waited for each other; a link was given
/// up at the end of a pause of 30 ms in which its ACK had arrived; a sender with acks that was asked to go while its bytes
/// waited for room was never read from again.
#[test]
fn seeds_that_failed_once() {
    for seed in [
        7_015_453_620_372_774,
        7_015_456_752_916_874,
        7_015_466_801_729_040,
        7_015_501_586_460_876,
        7_015_504_555_287_735,
        7_015_525_476_470_403,
        1_083,
        1_174,
        1_326,
        7_015_608_006_119_583,
    ] {
        if let Err(what) = run(&Plan::from_seed(seed)) {
            panic!("weir sim --seed {seed}: {what}");
        }
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in SEED_FIRST..SEED_FIRST + 20 {
        let plan = Plan::from_seed(seed);
        assert_eq!(run(&plan), run(&plan), "seed {seed}");
    }
}

#[test]
fn the_example_topology_is_played() {
    let text = include_str!("../examples/what-if.toml");
    let topology = Topology::parse(text, 1).expect("the example is right");
    let played = topology.play().expect("nothing is lost").to_string();
    assert!(played.contains(" 0 missing"), "{played}");
    assert!(played.contains("a link broke: "), "{played}");
    assert!(
        played.contains("recovery: 400000 messages sent"),
        "{played}"
    );
    for name in ["a ", "b ", "c ", "d "] {
        assert!(
            played.lines().any(|line| line.starts_with(name)),
            "{played}"
        );
    }
}

#[test]
fn bad_topologies_name_key_value_and_what_is_allowed() {
    let good = include_str!("../examples/what-if.toml");
    for (from, to, words) in [
        ("load = 0.8", "load = 80.0", ["load = 80", "0.001 to 10"]),
        ("load = 0.8", "lode = 0.8", ["lode", "expected one of"]),
        ("load = 0.8", "", ["rate and load", "only one"]),
        (
            "weight = 0.4",
            "weight = -1.0",
            ["analyzer a: weight = -1", "0 to"],
        ),
        (
            "what = \"die\"",
            "what = \"explode\"",
            ["explode", "die, vanish"],
        ),
        (
            "analyzer = \"c\"",
            "analyzer = \"z\"",
            ["\"z\"", "a, b, c, d"],
        ),
        (
            "dialect = \"compact\"",
            "dialect = \"latin\"",
            ["latin", "native, compact"],
        ),
        ("shards = 2", "shards = 0", ["shards = 0", "1 to 64"]),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Topology::parse(&good.replacen(from, to, 1), 1);
        let error = error.err().unwrap_or_else(|| panic!("{to} was taken"));
        assert!(
            words.iter().all(|word| error.contains(word)),
            "{to}: {error}"
        );
    }
}
