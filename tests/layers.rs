//! What crates cannot hold by themselves: what the pure ones may not touch, where unsafe code may be, how large a
//! file may grow. Who may use whom is in their `Cargo.toml`, and the compiler holds it.

use std::fs;
use std::path::{Path, PathBuf};

/// Pure: no I/O, no clock, no threads, nothing whose order differs from run to run.
const PURE: [&str; 5] = ["protocol", "inflate", "source", "engine", "http"];
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
            // Tests and examples of a crate do as they please.
            let of_crate = path.join("../Cargo.toml").exists();
            if !(of_crate && (path.ends_with("tests") || path.ends_with("examples"))) {
                collect(&path, files);
            }
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
        let is_all_tests = self.name.ends_with("/tests.rs");
        let tests = match is_all_tests {
            true => 0,
            false => tests.unwrap_or(usize::MAX),
        };
        self.lines().take_while(move |line| line.number <= tests)
    }
}

fn assert_none(found: &[String]) {
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The control side from the bottom to the top; a file uses what lies below it. The first that a name begins with
/// counts.
const CONTROL: [(&str, u8); 17] = [
    ("admin_port", 0),
    ("lock", 0),
    ("view", 0),
    ("executor::bell", 1),
    ("executor::hand", 1),
    ("executor::secured", 1),
    ("executor::socket", 1),
    ("executor::time", 1),
    ("health::checks", 2),
    ("health::outlier", 2),
    ("health::probe", 2),
    ("health::ramps", 2),
    ("health::resolver", 2),
    ("core", 3),
    ("health", 4),
    ("executor", 4),
    ("http_api", 5),
];

#[test]
fn rooms_of_the_control_side_look_down_only() {
    let level = |name: &str| CONTROL.iter().find(|(known, _)| name.starts_with(known));
    let (mut found, mut rooms) = (Vec::new(), 0);
    for source in sources() {
        let of_control = source.name.strip_prefix("control/");
        let Some(name) = of_control.filter(|name| !name.ends_with("tests.rs")) else {
            continue;
        };
        let Some((room, own)) = level(&name.replace(".rs", "").replace('/', "::")) else {
            continue;
        };
        rooms += 1;
        for line in source.product_lines() {
            let used = line.text.split("crate::").skip(1).filter_map(level);
            let is_above = |(other, above): &&(&str, u8)| above > own && other != room;
            for (other, _) in used.filter(is_above) {
                found.push(format!("{}:{}: {other}", source.name, line.number));
            }
        }
    }
    assert!(rooms > 25, "{rooms} files of control/");
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
        if source.name.starts_with("runtime/uring/") {
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
    for source in sources()
        .iter()
        .filter(|source| !source.name.starts_with("runtime/uring/"))
    {
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
/// run: `preempt_timer(1 us)` and `async {}` are enough. Shards give it no chance: they never yield. The control's
/// executor does, and has a timer of its own under way, whatever runs. See docs/adr/0001 and 0044.
#[test]
fn nobody_gives_glommio_a_chance_to_sleep_for_ever() {
    let mut found = Vec::new();
    let mut timers = Vec::new();
    for source in sources() {
        let of_data_path = ["shard", "runtime"].contains(&source.layer.as_str());
        for line in source.product_lines() {
            if of_data_path && line.text.contains("yield_") {
                found.push(format!("{}:{}: {}", source.name, line.number, line.text));
            }
            if line.text.contains("LocalExecutorBuilder::new(") {
                timers.push((source.name.clone(), source.text.contains(".preempt_timer(")));
            }
        }
    }
    assert_none(&found);
    let control = sources()
        .into_iter()
        .find(|s| s.name == "control/executor/mod.rs");
    let control = control.expect("the control's executor").text;
    assert!(control.contains("const LADDER") && control.contains("builder(PREEMPT_AFTER)"));
    let known = ["control/executor/mod.rs", "runtime/start.rs"].map(|name| (name.to_owned(), true));
    assert_eq!(
        timers, known,
        "executors, and whether they have a preemption timer that is not glommio's 100 ms"
    );
}

/// The queue behind glommio's channels can be cloned in safe code, and then corrupts the heap. Its channels give
/// each end to one thread. See docs/adr/0001.
#[test]
fn nobody_uses_the_queue_that_can_be_cloned() {
    let mut found = Vec::new();
    for source in sources() {
        for line in source.lines().filter(|l| l.text.contains("spsc_queue")) {
            found.push(format!("{}:{}: {}", source.name, line.number, line.text));
        }
    }
    assert_none(&found);
}

/// A file belongs to one crate: what two need is a module of `testkit`, or a crate.
#[test]
fn no_file_is_taken_in_from_another_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "testkit", "fuzz", "bench", "examples"] {
        every_file(&root.join(folder), &mut files);
    }
    let mut found = Vec::new();
    for file in files
        .iter()
        .filter(|f| f.extension().is_some_and(|e| e == "rs"))
    {
        let text = fs::read_to_string(file).expect("readable");
        let is_foreign = |line: &&str| line.starts_with("#[path") && line.contains("../");
        let lines = text.lines().map(str::trim).filter(is_foreign);
        found.extend(lines.map(|line| format!("{}: {line}", file.display())));
    }
    assert_none(&found);
}

/// The kit is for tests, `bench/` and `fuzz/`.
#[test]
fn the_product_does_not_depend_on_the_test_kit() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("Cargo.toml")];
    every_file(&root.join("src"), &mut files);
    files.retain(|file| file.ends_with("Cargo.toml"));
    assert!(files.len() > 10, "these are not the crates: {files:?}");
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        let table = text
            .split("\n[")
            .find(|table| table.starts_with("dependencies]"));
        if table.is_some_and(|table| table.contains("weir-testkit")) {
            found.push(file.display().to_string());
        }
    }
    assert_none(&found);
}

fn every_file(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("readable") {
        let path = entry.expect("readable").path();
        let is_built = path
            .file_name()
            .is_some_and(|name| name == "target" || name == "corpus");
        match path.is_dir() {
            true if is_built => {}
            true => every_file(&path, files),
            false => files.push(path),
        }
    }
}
