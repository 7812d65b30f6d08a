//! `weir demo`, the binary itself: what it prints when nobody looks, and that it leaves nothing behind.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .arg("demo")
        .args(args)
        .env_remove("RUST_LOG")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A demonstration that has got as far as printing a line with `mark`.
struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn until(mark: &str, args: &[&str]) -> Running {
        let mut child = demo(args).spawn().expect("spawn");
        let stdout = child.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while !line.contains(mark) {
            line.clear();
            assert_ne!(
                lines.read_line(&mut line).expect("output"),
                0,
                "no {mark:?}"
            );
        }
        Running { child, lines }
    }

    fn signal(&self, name: &str) {
        weir_testkit::process::signal(name, self.child.id());
    }

    fn children(&self) -> Vec<u32> {
        let own = self.child.id();
        let path = format!("/proc/{own}/task/{own}/children");
        let list = std::fs::read_to_string(path).expect("children");
        list.split_whitespace()
            .map(|pid| pid.parse().expect("pid"))
            .collect()
    }
}

/// Gone, or waiting for somebody to ask how it ended.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    state.is_empty() || state.starts_with('Z')
}

fn assert_all_gone(pids: &[u32], patience: Duration) {
    let deadline = Instant::now() + patience;
    while !pids.iter().all(|pid| is_gone(*pid)) {
        assert!(Instant::now() < deadline, "left behind: {pids:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn everything_is_shown_and_holds() {
    let output = demo(&["--duration", "6"]).output().expect("run");
    let text = text(&output);
    assert!(output.status.success(), "{}\n{text}", output.status);
    assert!(
        output.stderr.is_empty(),
        "nothing went wrong on the way:\n{text}"
    );
    assert!(
        !text.contains('\x1b'),
        "no escape codes when piped:\n{text}"
    );

    let tables = text
        .lines()
        .filter(|line| line.starts_with("analyzer  state"));
    assert!(tables.count() >= 5, "a table a second:\n{text}");
    for row in [
        "a1        up",
        "a2        up",
        "a2        offline",
        "a3        up",
        "a4        up",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(row)),
            "{row}:\n{text}"
        );
    }
    let event = |words: &[&str]| {
        let mut lines = text.lines();
        let found = lines.any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?}:\n{text}");
    };
    event(&["messages/s, conservation holds, shares within "]);
    event(&["a2 killed (SIGKILL, pid "]);
    event(&["a2 is gone (seen after ", " ms)"]);
    event(&["a2 ", " messages re-routed in ", " ms"]);
    event(&["a2 started again (pid "]);
    event(&["a2 is back with weight 0.3"]);
    event(&["a3 weight 0.2 -> 0.5"]);
    event(&["ok      sent = received: "]);
    event(&[
        "ok      conservation holds: received ",
        "in flight 0 + queued 0 + dropped 0",
    ]);
    event(&["ok      nothing lost"]);
    event(&["ok      analyzers noted ", "none out of order"]);
    event(&["ok      shares exact within ", "bound "]);
    event(&["ok      weir audit: balanced, by 7 run reports"]);
    event(&["ok      the plan was kept"]);
}

#[test]
fn an_interrupt_ends_it_in_order() {
    let mut running = Running::until(
        "messages/s, ",
        &["--duration=60", "--rate=500", "--shards=3"],
    );
    let children = running.children();
    assert_eq!(children.len(), 6, "four analyzers, two emitters");
    running.signal("-INT");
    let mut rest = String::new();
    running.lines.read_to_string(&mut rest).expect("output");
    let status = running.child.wait().expect("wait");
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(
        rest.contains("interrupted") && rest.contains("ok      conservation holds"),
        "{rest}"
    );
    assert!(!rest.contains("FAILED"), "{rest}");
    assert_all_gone(&children, Duration::ZERO);
}

#[test]
fn nothing_outlives_it_even_if_it_is_killed() {
    let mut running = Running::until("messages/s, ", &["--duration=60", "--rate=500"]);
    let children = running.children();
    assert_eq!(children.len(), 6, "four analyzers, two emitters");
    running.signal("-KILL");
    running.child.wait().expect("wait");
    // Emitters allow an open connection ten seconds for its end; these have none.
    assert_all_gone(&children, Duration::from_secs(10));
}

#[test]
fn a_reader_that_leaves_is_no_trouble() {
    let mut running = Running::until("analyzers ", &["--duration=60", "--rate=500"]);
    drop(running.lines);
    let status = running.child.wait().expect("wait");
    assert_eq!(status.code(), Some(1));
    let mut stderr = String::new();
    let pipe = running.child.stderr.as_mut().expect("piped");
    pipe.read_to_string(&mut stderr).expect("stderr");
    assert_eq!(stderr, "", "it ends, and says nothing");
}

#[test]
fn bad_values_say_what_is_allowed() {
    for (args, words) in [
        (["--duration", "1"], "3s to 1h"),
        (["--rate", "1"], "100..=1000000"),
        (["--shards", "0"], "1..=1024"),
    ] {
        let output = demo(&args).output().expect("run");
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(words), "{}", text(&output));
    }
}

#[test]
fn over_http_everything_is_shown_and_holds() {
    let output = demo(&["--http", "--duration", "4s", "--rate", "500"])
        .output()
        .expect("runs");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "a2 killed (SIGKILL",
        "a2 is gone",
        "a2 started again",
        "weir ctl weight a3 0.5",
        "ok      sent = received: 4,000 messages",
        "ok      conservation holds: received 4000 = ",
        "ok      shares exact within",
        "ok      weir audit: balanced, by 7 run reports",
        "ok      the plan was kept",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
}
