//! The examples do what they say, against a real distributor.

use std::io::Write;
use std::process::Command;

use super::root;
use weir_testkit::process::weir;
use weir_testkit::{socket, wire, Distributor, Program, Scratch};

const MESSAGES: u64 = 4_000;
/// Routed among three analyzers, so that each share is a whole number.
const WEIGHTS: [(&str, u64); 3] = [("rust", 2_000), ("python", 1_000), ("ours", 1_000)];

#[test]
fn the_analyzers_get_their_shares_and_ack_them() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: python3 is not on this host");
        return;
    }
    let scratch = Scratch::new("examples");
    let distributor = Distributor::start("--shards 2");
    let address = distributor.analyzers.to_string();

    let mut rust = Command::new(compiled(&scratch));
    rust.args([&address, "0.5"]);
    let rust = Program::start_command(rust, "examples/analyzer.rs");
    let mut python = Command::new("python3");
    python.arg(root().join("examples/analyzer.py"));
    python.args([&address, "python", "0.25"]);
    let python = Program::start_command(python, "examples/analyzer.py");
    let ours = Program::start(&format!(
        "analyzer --addr {address} --id ours --weight 0.25"
    ));
    distributor.wait_lanes(WEIGHTS.len());

    // Each shard routes for itself, so one connection has exact shares.
    let mut emitter = socket::connect(distributor.emitters);
    for id in 0..MESSAGES {
        let text = format!("message {id} \u{fc}ber alles");
        emitter
            .write_all(&wire::frame_of((id % 8) as u8, text.as_bytes()))
            .expect("taken");
    }
    drop(emitter);

    // A drain ends when all that was received is ACKed.
    let ended = distributor.stop();
    let balance = ended.assert_clean();
    assert_eq!(balance.received, MESSAGES);
    ours.signal("-TERM");
    ours.wait();
    let mut seen = vec![0_u8; MESSAGES as usize];
    for (program, (name, due)) in [rust, python].into_iter().zip(WEIGHTS) {
        let text = program.wait();
        let count = text.lines().count() as u64;
        assert!(
            count.abs_diff(due) <= 3,
            "{name}: {count} of {due}\n{ended:#?}"
        );
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [severity, "message", id, "\u{fc}ber", "alles"] = words[..] else {
                panic!("{name}: {line}");
            };
            let id: u64 = id.parse().expect("a number");
            assert_eq!(severity, (id % 8).to_string(), "{name}: {line}");
            seen[id as usize] += 1;
        }
    }
    assert!(seen.iter().all(|times| *times <= 1), "something came twice");
}

/// The example, built with the compiler alone: it needs nothing but the standard library.
fn compiled(scratch: &Scratch) -> std::path::PathBuf {
    let program = scratch.path("analyzer");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let mut command = Command::new(rustc);
    command
        .args(["--edition", "2021", "-D", "warnings", "-o"])
        .arg(&program);
    let output = command.arg(root().join("examples/analyzer.rs")).output();
    let output = output.expect("a compiler");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    program
}

#[test]
fn the_configuration_is_taken_without_a_warning() {
    let file = root().join("examples/weir.toml");
    let output = Command::new(weir())
        .arg("check")
        .arg(file)
        .output()
        .expect("runs");
    let says = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && !says.contains("warning"),
        "{says}"
    );
}
