//! Real searches, with a limit that is built in: analyzers that take their time, or a load that is late.

use std::process::{Command, Output};

const BENCH: &str = env!("CARGO_BIN_EXE_weir-bench");

/// Short trials of a small load through a relay.
const SEARCH: &str = "capacity --subject relay --connections 4 --repeat 2 --trial-initial 0.2 \
                      --trial-final 0.5 --duration-sum 0.5 --width 0.1 --rate-min 200 --rate-max 30000 \
                      --latency-seconds 0 --system-cores 0 --load-cores 0";

fn search(more: &str) -> (Output, String) {
    let mut command = Command::new(BENCH);
    command.args(SEARCH.split_whitespace());
    let output = command.args(more.split_whitespace()).output();
    let output = output.expect("weir-bench runs");
    let both = [&output.stdout[..], &output.stderr].concat();
    (output, String::from_utf8_lossy(&both).into_owned())
}

/// Analyzers that work 1 ms on each message take 1,000 a second each, and at most 4,000.
#[test]
fn two_searches_start_apart_and_find_the_same_limit() {
    let path = std::env::temp_dir().join(format!("weir-capacity-{}.json", std::process::id()));
    let (output, text) = search(&format!(
        "--think-us 1000 --weights 1,1,1,1 --p99-ms 400 --pdr-p99-ms 600 --exceed 0.3 --json {}",
        path.display()
    ));
    let json = std::fs::read_to_string(&path).expect("written");
    std::fs::remove_file(&path).expect("own file");
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("exceed      0.3:"), "{text}");
    let starts: Vec<&str> = text
        .lines()
        .filter_map(|l| l.split("starts at ").nth(1))
        .collect();
    assert_eq!(starts.len(), 2, "{text}");
    assert_ne!(starts[0], starts[1], "{text}");
    // The flood is no trial: the first one is where the search says that it starts.
    for (start, ndr) in starts.iter().zip([0, 2]) {
        let rate = start.split("/s").next().expect("not empty");
        let notes = report["series"][ndr]["notes"]
            .as_array()
            .into_iter()
            .flatten();
        let mut trials = notes.filter_map(|n| n.as_str().filter(|n| n.contains("/s for")));
        let first = trials.next().expect("a trial");
        assert!(
            first.starts_with(&format!("{rate}/s for 0.2 s")),
            "{first}\n{text}"
        );
    }
    let found: Vec<f64> = text
        .lines()
        .filter(|l| l.starts_with("  NDR"))
        .filter_map(|l| l.split_whitespace().nth(1)?.parse().ok())
        .collect();
    assert_eq!(found.len(), 2, "{text}");
    // Half a second of messages may wait: 400 ms of 500 may be behind.
    assert!(
        found.iter().all(|r| (1_000.0..9_000.0).contains(r)),
        "{text}"
    );
    assert_ne!(found[0], found[1], "two grids: {text}");
    assert!(text.contains("spread"), "{text}");
}

/// A load that sends what is due ten times a second is late by up to 100 ms at any rate.
#[test]
fn a_load_that_is_late_is_named_and_is_no_verdict_about_the_system() {
    let (output, text) = search("--tick-us 100000 --p99-ms 20 --pdr-p99-ms 30");
    assert_eq!(output.status.code(), Some(1), "{text}");
    let named = "the load, not the system, was the limit at 200/s";
    assert!(text.contains(named), "{text}");
    assert!(!text.contains("does not hold"), "{text}");
}
