//! Reports of real runs: against the schema, and each file beside the other. What needs the `weir`
//! binary, which lies beside weir-bench after `cargo test --workspace`, says so where it is missing.

#[path = "common/schema.rs"]
mod schema;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_weir-bench");

/// A directory for a test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("weir-report-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        Scratch(dir)
    }

    fn bench(&self, line: &str) -> Output {
        let mut command = Command::new(BENCH);
        command.args(line.split_whitespace()).current_dir(&self.0);
        command.output().expect("weir-bench runs")
    }

    /// Runs a subcommand that must succeed, and reads its report, which must be of the schema.
    fn report(&self, line: &str) -> Value {
        let output = self.bench(&format!("{line} --json report.json"));
        assert!(output.status.success(), "{line}\n{}", said(&output));
        let text = fs::read_to_string(self.0.join("report.json")).expect("written");
        let report: Value = serde_json::from_str(&text).expect("JSON");
        let wrong = schema::violations(&the_schema(), &report);
        assert!(wrong.is_empty(), "{line}\n{}", wrong.join("\n"));
        report
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("own files");
    }
}

fn the_schema() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("report.schema.json");
    serde_json::from_str(&fs::read_to_string(path).expect("there")).expect("JSON")
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The binary under test beside weir-bench.
fn is_weir_there() -> bool {
    let is_there = Path::new(BENCH).with_file_name("weir").is_file();
    if !is_there {
        println!("SKIPPED: no weir beside weir-bench: cargo build --workspace");
    }
    is_there
}

const PAIR: &str = "pair --a relay --b relay --pairs 2 --warm-up 0 --firehose-messages 300000 \
                    --trickle-connections 50 --trickle-rate 2000 --trickle-seconds 1.5 \
                    --system-cores 0 --load-cores 0";

#[test]
fn a_pair_writes_every_form_and_they_agree() {
    let scratch = Scratch::new("pair");
    let report = scratch.report(&format!("{PAIR} --html p.html --hgrm hgrm --hlog p.hlog"));
    assert_eq!(report["kind"], "pair");
    assert_eq!(report["passed"], true);
    let series = report["series"].as_array().expect("a list");
    assert_eq!(series.len(), 4, "two loads, two sides");
    let trickle = series.last().expect("four");
    assert_eq!(trickle["scenario"], "trickle");
    let run = &trickle["runs"][1];
    assert_eq!(run["messages"]["received"], 3000);
    assert!(run["cpu"]["ns_per_message"].as_f64() > Some(0.0));
    // What the intervals hold is what arrived.
    let samples = run["samples"].as_array().expect("a course");
    assert!(samples.len() >= 4, "{samples:?}");
    let received: u64 = samples.iter().filter_map(|s| s["received"].as_u64()).sum();
    assert_eq!(received, 3000);
    let ratio = report["summaries"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|s| s["label"] == "B: relay" && s["metric"] == "CPU per message");
    let ratio = &ratio.expect("a row")["ratio"];
    assert_eq!(ratio["pairs"], 2);
    // Two pairs: both on one side 0.5, else 1.
    let p = ratio["sign_test_p"].as_f64().expect("a test");
    assert!(p == 0.5 || p == 1.0, "{p}");
    // The second pair runs back: A B, B A.
    let begun = |side: usize, run: usize| {
        let run = &report["series"][2 + side]["runs"][run];
        run["started_unix_seconds"].as_f64().expect("a time")
    };
    let times = [begun(0, 0), begun(1, 0), begun(1, 1), begun(0, 1)];
    assert!(times.is_sorted(), "{times:?}");
    // An open loop says how late it was itself; a firehose has no schedule to be late for.
    let lag = &run["values"]["load lag p99"];
    assert!(lag["value"].as_f64() > Some(0.0), "{lag}");
    let firehose = &report["series"][0]["runs"][0];
    assert!(firehose["values"]["load lag p99"].is_null(), "{firehose}");
    // What the kernel moved to a thread of its own is counted where it can be seen, and else not 0.
    let told = &report["fingerprint"]["cpu"]["ksoftirqd of the system's cores"];
    let is_seen = told.as_str().is_some_and(|t| t.starts_with("seen"));
    assert_eq!(
        run["cpu"]["ksoftirqd_ns_per_message"].is_number(),
        is_seen,
        "{told}"
    );

    let page = fs::read_to_string(scratch.0.join("p.html")).expect("the page");
    for part in [
        "Latency by percentile",
        "Rate over time",
        "load lag p99",
        "too few rounds",
    ] {
        assert!(page.contains(part), "{part}");
    }
    // Both runs of a side are in its file.
    let counts: u64 = trickle["runs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|run| run["latencies"][0]["count"].as_u64())
        .sum();
    let hgrm = fs::read_to_string(scratch.0.join("hgrm/04-trickle-b-relay-latency.hgrm"));
    let hgrm = hgrm.expect("named so");
    let total = format!("Total count    = {counts:12}]");
    assert!(hgrm.contains(&total), "{total}\n{hgrm}");
    let hlog = fs::read_to_string(scratch.0.join("p.hlog")).expect("the log");
    let tagged = hlog
        .lines()
        .filter(|l| l.starts_with("Tag=trickle-b-relay-2,"));
    let timed = samples
        .iter()
        .filter(|s| s["histogram"].is_string())
        .count();
    assert_eq!(tagged.count(), timed);
}

/// `compare` and `scale` as well: the second round runs what the first ran last.
#[test]
fn rounds_of_many_go_back_too() {
    let scratch = Scratch::new("rounds");
    let few = "--rounds 2 --scenario firehose --firehose-messages 50000 --load-cores 0";
    let places = "--over-analyzers 2,3,4 --over-emitters none --system relay";
    let sizes = "--system relay --system weir --size 64,256";
    for (line, count) in [
        (format!("scale {few} {places}"), 3),
        (format!("compare {few} {sizes}"), 4),
    ] {
        if line.contains("weir") && !is_weir_there() {
            return;
        }
        let report = scratch.report(&line);
        let series = report["series"].as_array().expect("a list");
        assert_eq!(series.len(), count, "{line}");
        let begun = |series: &Value, run: usize| -> f64 {
            let begun = &series["runs"][run]["started_unix_seconds"];
            begun.as_f64().expect("a time")
        };
        for one in series {
            assert!(one["failed"].is_null(), "{line}: {}", one["failed"]);
        }
        // Those of one scenario ran in turn: of compare those of one size.
        for together in series.chunk_by(|a, b| a["scenario"] == b["scenario"]) {
            let first = together.iter().map(|s| begun(s, 0));
            let second = together.iter().rev().map(|s| begun(s, 1));
            let times: Vec<f64> = first.chain(second).collect();
            assert!(times.is_sorted() && times.len() > 2, "{line}: {times:?}");
        }
    }
}

#[test]
fn a_page_made_later_is_the_page_made_at_once() {
    let scratch = Scratch::new("render");
    scratch.report(&format!("{PAIR} --scenario trickle --html at-once.html"));
    let output = scratch.bench("render report.json --html later.html");
    assert!(output.status.success(), "{}", said(&output));
    let read = |name: &str| fs::read_to_string(scratch.0.join(name)).expect("a page");
    assert_eq!(read("later.html"), read("at-once.html"));
    let nothing = scratch.bench("render report.json");
    assert_eq!(nothing.status.code(), Some(2));
    assert!(said(&nothing).contains("--html FILE"), "{}", said(&nothing));
}

#[test]
fn diff_finds_what_was_made_slower_and_says_so_in_its_exit_status() {
    let scratch = Scratch::new("diff");
    let line = PAIR.replace("--pairs 2", "--pairs 6");
    let mut report = scratch.report(&format!("{line} --scenario firehose"));
    let same = scratch.bench("diff report.json report.json");
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));
    // Three times the CPU on one side: no machine drifts like that.
    for run in report["series"][1]["runs"].as_array_mut().expect("runs") {
        for part in [
            "ns_per_message",
            "user_ns_per_message",
            "system_ns_per_message",
        ] {
            let ns = run["cpu"][part].as_f64().expect("a figure");
            run["cpu"][part] = (3.0 * ns).into();
        }
    }
    fs::write(scratch.0.join("slower.json"), report.to_string()).expect("writes");
    let diff = |a: &str, b: &str, more: &[&str]| {
        let mut command = Command::new(BENCH);
        command
            .args(["diff", a, b])
            .args(more)
            .current_dir(&scratch.0);
        command.output().expect("runs")
    };
    let slower = diff(
        "report.json",
        "slower.json",
        &["--metric", "CPU per message"],
    );
    assert_eq!(slower.status.code(), Some(1), "{}", said(&slower));
    assert!(said(&slower).contains("REGRESSION"), "{}", said(&slower));
    let faster = diff(
        "slower.json",
        "report.json",
        &["--metric", "CPU per message"],
    );
    assert_eq!(faster.status.code(), Some(0), "{}", said(&faster));
    // Three runs of each cannot show even this: not known is not the same as no regression.
    let mut before = scratch.report(&format!("{line} --scenario firehose"));
    for (name, whole) in [("few-a.json", &mut before), ("few-b.json", &mut report)] {
        for series in whole["series"].as_array_mut().expect("series") {
            series["runs"].as_array_mut().expect("runs").truncate(3);
        }
        fs::write(scratch.0.join(name), whole.to_string()).expect("writes");
    }
    let few = diff(
        "few-a.json",
        "few-b.json",
        &["--metric", "CPU per message", "--json", "diff.json"],
    );
    assert_eq!(few.status.code(), Some(3), "{}", said(&few));
    assert!(said(&few).contains("take 5 of each"), "{}", said(&few));
    let json = fs::read_to_string(scratch.0.join("diff.json")).expect("written");
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["verdict"], "too few runs");
    assert_eq!(
        (&json["runs_needed"], &json["exit_status"]),
        (&5.into(), &3.into())
    );
    assert_eq!(json["tests"].as_array().map(Vec::len), Some(2));
    let unreadable = diff("report.json", "nowhere.json", &[]);
    assert_eq!(unreadable.status.code(), Some(2));
    assert!(said(&unreadable).contains("nowhere.json"));
}

/// The command line that reads the same in both reports, and its build does not start in the second.
#[test]
fn diff_is_no_pass_for_a_build_that_does_not_start() {
    let scratch = Scratch::new("broken");
    let build = |text: &str| {
        let path = scratch.0.join("other");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("own file");
    };
    let compare = |file: &str| -> Output {
        let mut command = Command::new(BENCH);
        let line = "compare --rounds 1 --scenario firehose --firehose-messages 50000 --load-cores 0 --system relay";
        command.args(line.split(' ')).args([
            "--system",
            "./other {emitters} {analyzers}",
            "--json",
            file,
        ]);
        command
            .current_dir(&scratch.0)
            .output()
            .expect("weir-bench runs")
    };
    build(&format!("exec {BENCH} relay --emitters $1 --analyzers $2"));
    let good = compare("good.json");
    assert_eq!(good.status.code(), Some(0), "{}", said(&good));
    build("echo no such option >&2; exit 64");
    let bad = compare("bad.json");
    assert_eq!(bad.status.code(), Some(1), "{}", said(&bad));
    for (files, status, told) in [
        (
            "good.json bad.json",
            1,
            "other {emitters} {analyzers}: FAILED: failed in b after 0 runs: ",
        ),
        (
            "bad.json good.json",
            3,
            "other {emitters} {analyzers}: missing: failed in a after 0 runs: ",
        ),
        (
            "bad.json bad.json",
            3,
            "other {emitters} {analyzers}: missing: failed in both: ",
        ),
    ] {
        let diff = scratch.bench(&format!("diff {files} --json diff.json"));
        let text = said(&diff);
        assert_eq!(diff.status.code(), Some(status), "{files}: {text}");
        assert!(
            text.contains(told) && text.contains("no such option"),
            "{files}: {text}"
        );
        let json = fs::read_to_string(scratch.0.join("diff.json")).expect("written");
        let json: Value = serde_json::from_str(&json).expect("JSON");
        let why = json["missing"][0]["why"].as_str().expect("a reason");
        assert!(why.contains("no such option"), "{why}");
    }
}

/// A system that stops in the middle of a run: figures of what it did until then say that they are such.
#[test]
fn a_stall_in_the_measured_part_is_noted() {
    let scratch = Scratch::new("stall");
    let path = scratch.0.join("other");
    // Connections and rest take up to about 2 s of the 4.5, and 10 % to 95 % are 0.8 s to 7.6 s after that.
    let text = format!(
        "#!/bin/sh\n{BENCH} relay --emitters $1 --analyzers $2 & relay=$!\ntrap 'kill -9 $relay; exit 0' TERM\n\
         sleep 4.5; kill -STOP $relay; while :; do sleep 0.1; done\n"
    );
    fs::write(&path, text).expect("writes");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("own file");
    let mut command = Command::new(BENCH);
    let line = "compare --rounds 1 --scenario trickle --trickle-connections 10 --trickle-rate 1000 --trickle-seconds 8 \
                --load-cores 0 --json report.json";
    command
        .args(line.split_whitespace())
        .args(["--system", "./other {emitters} {analyzers}"]);
    let output = command
        .current_dir(&scratch.0)
        .output()
        .expect("weir-bench runs");
    assert_eq!(
        output.status.code(),
        Some(1),
        "messages are lost: {}",
        said(&output)
    );
    let json = fs::read_to_string(scratch.0.join("report.json")).expect("written");
    let report: Value = serde_json::from_str(&json).expect("JSON");
    let notes = report["series"][0]["runs"][0]["notes"].to_string();
    for part in ["stalled at ", "of 8000 sent, before 95 % of 8000"] {
        assert!(notes.contains(part), "{part}: {notes}\n{}", said(&output));
    }
    assert!(said(&output).contains("stalled at "), "{}", said(&output));
}

#[test]
fn a_file_that_cannot_be_written_is_said_before_anything_runs() {
    let scratch = Scratch::new("unwritable");
    for flag in ["--json", "--html", "--hgrm", "--hlog"] {
        let output = scratch.bench(&format!("{PAIR} {flag} no/such/directory"));
        assert_eq!(output.status.code(), Some(2));
        let text = said(&output);
        assert!(
            text.contains(&format!("{flag} no/such/directory: there is no")),
            "{text}"
        );
        assert!(!text.contains("firehose"), "nothing ran: {text}");
    }
}

#[test]
fn the_other_subcommands_write_reports_of_the_same_form() {
    let scratch = Scratch::new("kinds");
    let few = "--a relay --connections 50 --per-connection 20 --rate 2000 --load-cores 0";
    let report = scratch.report(&format!("connections {few}"));
    let values = &report["series"][0]["runs"][0]["values"];
    assert!(
        values["resident, used"]["value"].as_f64() > Some(0.0),
        "{values}"
    );

    let report = scratch.report("weights --shards 1 --changes 20");
    let latency = &report["series"][0]["runs"][0]["latencies"][0];
    assert_eq!(latency["count"], 20);

    if !is_weir_there() {
        return;
    }
    let failover = "failover --kills 2 --rate 2000 --connections 4 --load-cores 0 --ack-every 50";
    let report = scratch.report(failover);
    let run = &report["series"][0]["runs"][0];
    assert_eq!(run["messages"]["lost"], 0);
    assert!(
        run["zero_copy"].is_object(),
        "the distributor's own counters: {run}"
    );
    let abuse = "http-abuse --kinds utf8,smuggle --pairs 1 --seconds 0.3 --rate 500 --load-cores 0";
    // Whether the rate held is the machine's affair here.
    let output = scratch.bench(&format!("{abuse} --json abuse.json"));
    let text = fs::read_to_string(scratch.0.join("abuse.json"));
    let text = text.unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(schema::violations(&the_schema(), &report), [""; 0]);
    let abuse = report["series"].as_array().expect("a list");
    let named = |s: &Value| format!("{} {}", s["scenario"], s["label"]).replace('"', "");
    let names: Vec<String> = abuse.iter().map(named).collect();
    let quiet_and_beside = [
        "utf8 quiet",
        "utf8 beside abuse",
        "smuggle quiet",
        "smuggle beside abuse",
    ];
    assert_eq!(names, quiet_and_beside);
    for series in abuse {
        let rate = series["runs"][0]["messages_per_second"].as_f64();
        assert!(rate > Some(0.0), "{series}");
    }
    for beside in [&abuse[1], &abuse[3]] {
        let answers = beside["notes"][0].as_str().expect("what came of it");
        assert!(
            answers.starts_with("answers: 400: "),
            "both kinds are refused: {answers}"
        );
    }
    let output =
        scratch.bench("http-overload --seconds 2 --rate 2000 --load-cores 0 --json o.json");
    let text = fs::read_to_string(scratch.0.join("o.json"));
    let text = text.unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(schema::violations(&the_schema(), &report), [""; 0]);
    // Twice what fits: some is taken, some refused, and what was taken came.
    let run = &report["series"][0]["runs"][0];
    let packets = |what: &str| run["values"][what]["value"].as_f64();
    assert!(packets("packets taken (202)") > Some(0.0), "{run}");
    assert!(packets("packets refused (503)") > Some(0.0), "{run}");
    assert!(run["messages"]["received"].as_u64() > Some(0), "{run}");
    assert_eq!(
        run["messages"]["sent"], run["messages"]["received"],
        "{run}"
    );
}

#[test]
fn a_report_with_a_wrong_field_is_against_the_schema() {
    let scratch = Scratch::new("wrong");
    let mut report = scratch.report(&format!(
        "{} --scenario trickle",
        PAIR.replace("--pairs 2", "--pairs 1")
    ));
    report["series"][0]["runs"][0]["cpu"]["ns_per_mesage"] = 1.into();
    report["started"] = "yesterday".into();
    let wrong = schema::violations(&the_schema(), &report);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}
