//! The source keeps its layers: who may know whom, what the pure layers may not touch, where unsafe
//! code may be, how large a file may grow.

use std::fs;
use std::path::{Path, PathBuf};

/// Each layer and the layers that it may use, as `src/lib.rs` draws them.
const LAYERS: [(&str, &[&str]); 17] = [
    ("protocol", &[]),
    // The time by which peers are judged, for all that have time-outs.
    ("awake", &[]),
    ("engine", &["http", "protocol"]),
    ("http", &["protocol"]),
    ("uring", &["engine", "protocol"]),
    ("shard", &["awake", "uring", "engine", "http", "protocol"]),
    ("sim", &["shard", "uring", "engine", "http", "protocol"]),
    // What all programs write down: formats and files, nothing of how they work.
    ("certificate", &["protocol"]),
    ("journal", &[]),
    // Programs of their own: what they know of the distributor is the wire.
    (
        "client",
        &["awake", "certificate", "http", "journal", "protocol"],
    ),
    ("audit", &["certificate", "journal", "shard", "engine"]),
    // systemd, as seen by a service.
    ("service", &["uring"]),
    ("streams", &["service"]),
    // What an operator looks at and turns.
    (
        "control",
        &[
            "audit",
            "awake",
            "certificate",
            "service",
            "shard",
            "streams",
            "engine",
            "http",
            "protocol",
        ],
    ),
    // Looks at the host; of the shards it knows what they ask for.
    ("doctor", &["shard", "uring"]),
    (
        "demo",
        &["client", "shard", "streams", "uring", "engine", "protocol"],
    ),
    (
        "cli",
        &[
            "audit",
            "certificate",
            "control",
            "demo",
            "doctor",
            "service",
            "sim",
            "streams",
            "client",
            "shard",
            "engine",
            "protocol",
        ],
    ),
];
/// Pure: no I/O, no clock, no threads, nothing whose order differs from run to run.
const PURE: [&str; 3] = ["protocol", "engine", "http"];
const IMPURE: [&str; 13] = [
    "std::net",
    "std::io",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
    "SystemTime",
    "unsafe",
    "glommio",
    "io_uring",
    "libc::",
    "HashMap",
];
const LINES_MAX: usize = 700;

struct Source {
    /// Below `src`.
    name: String,
    layer: String,
    text: String,
}

/// A line without its comment and strings, and its number.
struct Line<'a> {
    number: usize,
    text: &'a str,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    assert!(files.len() > 20, "this is not the source: {files:?}");
    let source = |path: PathBuf| {
        let relative = path.strip_prefix(&root).expect("below src");
        let name = relative.to_str().expect("plain names").to_string();
        let layer = name.split(['/', '.']).next().expect("not empty");
        let layer = layer.to_string();
        let text = fs::read_to_string(&path).expect("readable");
        Source { name, layer, text }
    };
    files.into_iter().map(source).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    /// Lines with code, tests included.
    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let lines = self.text.lines().zip(1..);
        lines.filter_map(|(line, number)| {
            let text = line.split("//").next().unwrap_or_default();
            (!text.trim().is_empty()).then_some(Line { number, text })
        })
    }

    /// Lines before the tests, which may do as they please.
    fn product_lines(&self) -> impl Iterator<Item = Line<'_>> {
        let tests = self.text.lines().position(|l| l.trim() == "#[cfg(test)]");
        let tests = tests.unwrap_or(usize::MAX);
        self.lines().take_while(move |line| line.number <= tests)
    }
}

/// Modules of this crate that a line names: `crate::engine::Lane`, `crate::{engine, uring}`.
fn modules_named(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for part in line.split("crate::").skip(1) {
        let word = |text: &str| -> String {
            let name = text.trim_start().chars();
            name.take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        };
        match part.strip_prefix('{') {
            Some(list) => named.extend(list.split([',', '}']).map(word)),
            None => named.push(word(part)),
        }
    }
    named.retain(|name| LAYERS.iter().any(|(layer, _)| layer == name));
    named
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn names_are_found() {
    assert_eq!(modules_named("use crate::engine::Lane;"), ["engine"]);
    assert_eq!(
        modules_named("use crate::{engine::Lane, uring};"),
        ["engine", "uring"]
    );
    assert_eq!(
        modules_named("let a = crate::uring::now() + crate::shard::b();"),
        ["uring", "shard"]
    );
    assert!(modules_named("use super::engine; pub(crate) fn a()").is_empty());
}

#[test]
fn layers_know_only_those_below() {
    let mut found = Vec::new();
    for source in sources() {
        if matches!(source.layer.as_str(), "lib" | "main") {
            continue;
        }
        let layer = LAYERS.iter().find(|(layer, _)| *layer == source.layer);
        let (_, below) = layer.unwrap_or_else(|| panic!("{}: a new layer?", source.name));
        for line in source.lines() {
            if line.text.trim_end().ends_with("crate::{") {
                let name = &source.name;
                found.push(format!("{name}:{}: a layer to a line", line.number));
            }
            for module in modules_named(line.text) {
                if module != source.layer && !below.contains(&module.as_str()) {
                    found.push(format!(
                        "{}:{}: {} may not use {module}",
                        source.name, line.number, source.layer
                    ));
                }
            }
        }
    }
    assert_none(&found);
}

#[test]
fn pure_layers_touch_nothing_outside() {
    let mut found = Vec::new();
    for source in sources() {
        if !PURE.contains(&source.layer.as_str()) {
            continue;
        }
        for line in source.product_lines() {
            let text = line.text.replace("#![forbid(unsafe_code)]", "");
            for word in IMPURE.iter().filter(|word| text.contains(**word)) {
                found.push(format!("{}:{}: {word}", source.name, line.number));
            }
        }
    }
    assert_none(&found);
}

#[test]
fn unsafe_code_is_in_one_layer() {
    let mut found = Vec::new();
    for source in sources() {
        let unsafe_line = |line: &Line| {
            let mut words = line.text.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.any(|word| word == "unsafe")
        };
        if source.layer == "uring" {
            continue;
        }
        for line in source.lines().filter(unsafe_line) {
            found.push(format!("{}:{}: unsafe", source.name, line.number));
        }
        if source.text.contains("allow(unsafe_code)") {
            found.push(format!("{}: allows unsafe code", source.name));
        }
    }
    assert_none(&found);
}

#[test]
fn only_the_ring_layer_knows_the_ring() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| source.layer != "uring") {
        for line in source.lines().filter(|l| l.text.contains("io_uring::")) {
            found.push(format!("{}:{}: io_uring", source.name, line.number));
        }
    }
    assert_none(&found);
}

/// `println!` panics when nobody reads, `eprintln!` waits until somebody does as well: a program writes through
/// `weir::out!`, `weir::streams` and `log`.
#[test]
fn standard_streams_are_written_in_one_place() {
    const DIRECT: [&str; 6] = [
        "println!(",
        "print!(",
        "stdout().lock()",
        "stderr().lock()",
        "error.print()",
        "dbg!(",
    ];
    // The demo draws on a terminal, and ends when that is gone.
    const ALLOWED: [&str; 2] = ["streams/out.rs", "demo/screen.rs"];
    let mut found = Vec::new();
    for source in sources() {
        if ALLOWED.contains(&source.name.as_str()) || source.name.ends_with("tests.rs") {
            continue;
        }
        for line in source.product_lines() {
            if DIRECT.iter().any(|direct| line.text.contains(direct)) {
                found.push(format!("{}:{}: {}", source.name, line.number, line.text));
            }
        }
    }
    assert_none(&found);
}

#[test]
fn files_stay_small() {
    let mut found = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            found.push(format!(
                "{}: {lines} lines, {LINES_MAX} allowed",
                source.name
            ));
        }
    }
    assert_none(&found);
}

/// glommio 0.9 sleeps for ever when its preemption timer has run out before it looks for something to
/// run: `preempt_timer(1 us)` and `async {}` are enough. See docs/adr/0001.
#[test]
fn shards_never_give_glommio_a_chance_to_sleep() {
    let mut found = Vec::new();
    let mut is_timer_set = false;
    for source in sources().iter().filter(|s| s.layer == "shard") {
        for line in source.product_lines() {
            if line.text.contains("yield_") {
                found.push(format!("{}:{}: {}", source.name, line.number, line.text));
            }
            is_timer_set |= line.text.contains(".preempt_timer(PREEMPT_AFTER)");
        }
    }
    assert_none(&found);
    assert!(is_timer_set, "executors have glommio's timer of 100 ms");
}
