//! The binary itself: reference command lines, signals, exit status.

use crate::fake::{listen, read_frames, Analyzer};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use weir::client::analyzer::RECORD_BYTES;
use weir::sink::Control;
use weir_testkit::process::signal;
use weir_testkit::Scratch;

/// A link to the binary under the name of a reference program.
struct Named {
    link: PathBuf,
    scratch: Scratch,
}

impl Named {
    fn new(name: &str, test: &str) -> Self {
        let scratch = Scratch::new(test);
        let link = scratch.path(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_weir"), &link).expect("link");
        Self { link, scratch }
    }

    fn start(&self, line: &str) -> Child {
        let mut command = Command::new(&self.link);
        command
            .args(line.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().expect("spawn")
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// It was stopped for longer than it gives to what is under way. What arrived meanwhile is not left to others.
#[test]
fn an_analyzer_that_was_stopped_while_leaving_takes_what_has_arrived() {
    let (listener, addr) = listen();
    let named = Named::new("analyzer", "stopped");
    let child = named.start(&format!(
        "-addr {addr} -id a -weight 1 -dialect native -delay 1ms"
    ));
    let mut link = Analyzer::accept(&listener).welcomed(1, 0);
    link.send("e/0", 1..=10);
    link.hear_until_ack(10);
    signal("-TERM", child.id());
    while link.hear() != Control::Drain {}
    // It leaves when it is quiet for 200 ms.
    signal("-STOP", child.id());
    link.send("e/0", 11..=20);
    std::thread::sleep(Duration::from_secs(6));
    signal("-CONT", child.id());
    link.hear_until_ack(20);
    drop(link);
    let output = child.wait_with_output().expect("output");
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn reference_emitter_line() {
    let (listener, addr) = listen();
    let named = Named::new("emitter", "emitter-line");
    let child = named.start(&format!(
        "-rate=500 -duration=1 -id=emitter-1 -addr {addr} -size=256"
    ));
    let frames = read_frames(listener.accept().expect("accept").0, 4096);
    let output = child.wait_with_output().expect("output");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(frames.len(), 500);
    assert!(frames
        .iter()
        .all(|f| f.len() == 261 && f[5..].starts_with(b"emitter-1/0 ")));
    assert!(
        text(&output).contains("emitter-1: Sent 500 messages"),
        "{}",
        text(&output)
    );
}

#[test]
fn reference_analyzer_line_ends_cleanly_on_sigterm() {
    let (listener, addr) = listen();
    let named = Named::new("analyzer", "analyzer-line");
    let line = format!("-weight=0.4 -id=analyzer-1 -ack-every=10 -verbose=true -addr={addr}");
    let child = named.start(&line);
    let mut link = Analyzer::accept(&listener).welcomed(1, 0);
    assert_eq!((link.weight, link.id.as_str()), (0.4, "analyzer-1"));
    link.send("e/0", 1..=12);
    link.hear_until_ack(12);
    signal("-TERM", child.id());
    assert_eq!(link.hear(), Control::Drain);
    assert_eq!(link.hear(), Control::Goodbye { sequence: 12 });
    drop(link);
    let output = child.wait_with_output().expect("output");
    assert!(output.status.success(), "{}", text(&output));
    assert!(
        text(&output).contains("analyzer-1: Processed 12 messages"),
        "{}",
        text(&output)
    );
}

#[test]
fn a_weight_changes_once_and_a_closed_pipe_ends_it_with_a_summary_in_json() {
    let (listener, addr) = listen();
    let named = Named::new("analyzer", "weight-after");
    let mut command = Command::new(&named.link);
    command
        .args(["--weight=0.2", "--id=a3", "--weight-after=100ms=0.5"])
        .args(["--stop-on-eof", "--json", &format!("--addr={addr}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("spawn");
    let mut link = Analyzer::accept(&listener).welcomed(1, 0);
    assert_eq!(link.weight, 0.2);
    link.send("e/0", 1..=10);
    assert_eq!(link.hear(), Control::Ack(10));
    assert_eq!(link.hear(), Control::Weight(0.5));
    assert_eq!(link.hear_within(Duration::from_millis(300)), None, "once");
    drop(child.stdin.take());
    assert_eq!(link.hear(), Control::Drain);
    assert_eq!(link.hear(), Control::Goodbye { sequence: 10 });
    drop(link);
    let output = child.wait_with_output().expect("output");
    assert!(output.status.success(), "{}", text(&output));
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        summary.starts_with(r#"{"id":"a3","messages":10,"#),
        "{summary}"
    );
    assert!(summary.contains(r#""weight":0.5,"#), "{summary}");
    assert!(summary.ends_with("}\n"), "{summary}");
}

#[test]
fn records_survive_sigkill() {
    let (listener, addr) = listen();
    let named = Named::new("analyzer", "sigkill");
    let record = named.scratch.path("record");
    let child = named.start(&format!(
        "-addr={addr} -ack-every=1 --record={}",
        record.display()
    ));
    let mut link = Analyzer::accept(&listener).welcomed(1, 0);
    link.send("e/0", 1..=500);
    let acked = match link.hear() {
        Control::Ack(sequence) => sequence,
        other => panic!("{other:?}"),
    };
    signal("-KILL", child.id());
    child.wait_with_output().expect("output");
    let mut last = acked;
    while let Some(Control::Ack(sequence)) = link.hear_within(Duration::from_millis(200)) {
        last = sequence;
    }
    let recorded = std::fs::read(&record).expect("record file").len();
    assert!(
        recorded as u64 >= last * RECORD_BYTES as u64,
        "{recorded} bytes for {last} ACKed"
    );
}

#[test]
fn failures_and_usage_have_their_exit_status() {
    let named = Named::new("analyzer", "exit-status");
    let (listener, addr) = listen();
    drop(listener);
    for (line, status) in [
        (format!("-addr={addr} --reconnect=false"), 1),
        ("-weight=-1".to_string(), 2),
        ("-no-such-flag".to_string(), 2),
        ("--help".to_string(), 0),
        (
            format!("-addr={addr} --record=/no/such/directory/record"),
            1,
        ),
    ] {
        let output = named.start(&line).wait_with_output().expect("output");
        assert_eq!(
            output.status.code(),
            Some(status),
            "{line}: {}",
            text(&output)
        );
    }
}
