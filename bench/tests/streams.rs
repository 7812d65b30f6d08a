//! Whoever reads, or does not: no panic, and an exit status that says what was measured.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

const BENCH: &str = env!("CARGO_BIN_EXE_weir-bench");

/// Two short trials through a relay.
const LATENCY: &str = "latency --subject relay --connections 4 --rates 500,600 --seconds 0.3 \
                       --system-cores 0 --load-cores 0";

/// Under a redirection of the shell: exit status, and what it said on stderr.
fn redirected(redirection: &str) -> (Option<i32>, String) {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}"), BENCH]);
    let output = shell.args(LATENCY.split_whitespace()).output();
    let output = output.expect("sh runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut command = Command::new(BENCH);
    command.args(LATENCY.split_whitespace());
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("weir-bench starts");
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut first).expect("a line");
    drop(stdout);
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("piped");
    stderr.read_to_string(&mut said).expect("text");
    let status = child.wait().expect("it ends");
    assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{first}");
}

#[test]
fn a_full_disk_is_said_and_no_success() {
    let (status, said) = redirected(">/dev/full");
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("standard output: No space left"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn streams_that_are_closed_change_nothing() {
    assert_eq!(redirected(">&- 2>&-").0, Some(0));
    // What cannot be done has its status, though nobody hears why.
    let mut shell = Command::new("sh");
    let line = "exec \"$0\" render /nowhere.json >&- 2>&-";
    let status = shell.args(["-c", line, BENCH]).status().expect("sh runs");
    assert_eq!(status.code(), Some(2));
}
