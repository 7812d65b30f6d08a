//! Relay, load and sink as separate processes and as the scenarios run them: every message
//! arrives once, and the checker says so in its exit code.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use weir_testkit::Port;

const BENCH: &str = env!("CARGO_BIN_EXE_weir-bench");

/// A relay on ports of its own, killed at the end of the test.
struct Relay {
    child: Child,
    emitters: SocketAddr,
    analyzers: SocketAddr,
    _ports: [Port; 2],
}

impl Relay {
    fn start(unit: u32) -> Self {
        let ports = [Port::hold(), Port::hold()];
        let [emitters, analyzers] = ports.each_ref().map(Port::address);
        let child = Command::new(BENCH)
            .args(["relay", "--emitters", &emitters.to_string()])
            .args(["--analyzers", &analyzers.to_string()])
            .args(["--unit", &unit.to_string()])
            .spawn()
            .expect("relay starts");
        Self {
            child,
            emitters,
            analyzers,
            _ports: ports,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.child.kill().expect("relay runs");
        self.child.wait().expect("relay ends");
    }
}

fn bench(line: &str) -> Command {
    let mut command = Command::new(BENCH);
    command.args(line.split_whitespace());
    command
}

#[track_caller]
fn assert_exact(output: &Output, sent: u64) {
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = format!("sent {sent}, delivered {sent}, lost 0, twice 0");
    assert!(
        text.contains(&expected),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{text}");
}

#[test]
fn firehose_through_the_relay_arrives_once() {
    let relay = Relay::start(256);
    let line = format!(
        "load-sink --emitters {} --analyzers {} --connections 8 --messages 200001",
        relay.emitters, relay.analyzers
    );
    assert_exact(&bench(&line).output().expect("runs"), 200_001);
}

#[test]
fn messages_that_divide_no_buffer_are_never_cut() {
    let relay = Relay::start(331);
    let line = format!(
        "load-sink --emitters {} --analyzers {} --connections 7 --messages 50000 --size 331",
        relay.emitters, relay.analyzers
    );
    assert_exact(&bench(&line).output().expect("runs"), 50_000);
}

/// 100 MB go in while nobody reads: sends fall short, emitters are stopped, nothing is lost.
#[test]
fn a_full_analyzer_stops_its_emitters() {
    const MESSAGES: u64 = 400_000;
    let relay = Relay::start(256);
    let mut analyzer = loop {
        match std::net::TcpStream::connect(relay.analyzers) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let line = format!(
        "load --emitters {} --connections 16 --messages {MESSAGES}",
        relay.emitters
    );
    let mut load = bench(&line).stdout(Stdio::null()).spawn().expect("starts");
    std::thread::sleep(Duration::from_millis(500));

    let (mut total, mut seen) = (0, vec![false; MESSAGES as usize]);
    let mut frame = [0; 256];
    while total < MESSAGES {
        analyzer.read_exact(&mut frame).expect("whole frames");
        assert_eq!(frame[..4], 256u32.to_be_bytes(), "cut inside a message");
        let sequence = u64::from_be_bytes(frame[17..25].try_into().expect("8 bytes"));
        assert!(
            !std::mem::replace(&mut seen[sequence as usize], true),
            "{sequence} came twice"
        );
        total += 1;
    }
    assert!(load.wait().expect("ends").success());
}

#[test]
fn open_loop_times_every_message() {
    let relay = Relay::start(256);
    let report = std::env::temp_dir().join(format!("weir-bench-test-{}.json", std::process::id()));
    let line = format!(
        "load-sink --emitters {} --analyzers {} --connections 100 --rate 5000 --messages 2000",
        relay.emitters, relay.analyzers
    );
    let output = bench(&line)
        .arg("--json")
        .arg(&report)
        .output()
        .expect("runs");
    assert_exact(&output, 2_000);

    let text = std::fs::read_to_string(&report).expect("report written");
    std::fs::remove_file(&report).expect("own file");
    let report: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
    let run = &report["series"][0]["runs"][0];
    assert_eq!(run["latencies"][0]["count"], 2_000);
    assert!(report["conditions"]["network"]
        .as_str()
        .is_some_and(|n| n.contains("zero-copy")));
}

#[test]
fn two_loads_and_a_sink_in_processes_of_their_own() {
    let relay = Relay::start(256);
    let sink = bench(&format!(
        "sink --analyzers {} --expect 30000",
        relay.analyzers
    ))
    .stdout(Stdio::piped())
    .spawn()
    .expect("sink starts");
    for first in [0, 10_000] {
        let messages = first + 10_000;
        let line = format!(
            "load --emitters {} --connections 4 --messages {messages} --first-sequence {first}",
            relay.emitters
        );
        assert!(bench(&line).status().expect("runs").success());
    }
    assert_exact(&sink.wait_with_output().expect("ends"), 30_000);
}

#[test]
fn a_sink_that_misses_messages_fails() {
    let relay = Relay::start(256);
    let sink = bench(&format!(
        "sink --analyzers {} --expect 1001 --idle 1",
        relay.analyzers
    ))
    .stdout(Stdio::piped())
    .spawn()
    .expect("sink starts");
    let line = format!("load --emitters {} --messages 1000", relay.emitters);
    assert!(bench(&line).status().expect("runs").success());
    let output = sink.wait_with_output().expect("ends");
    assert!(String::from_utf8_lossy(&output.stdout).contains("lost 1,"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_pair_of_relays_measures_both_sides() {
    let output = bench(
        "pair --a relay --b relay --pairs 1 --warm-up 0 --firehose-messages 100000 \
         --trickle-connections 50 --trickle-rate 2000 --trickle-seconds 0.5 --system-cores 0 \
         --load-cores 0",
    )
    .output()
    .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(text.matches("CPU per message, B / A").count(), 2, "{text}");
}
