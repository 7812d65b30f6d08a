//! The hot path's pieces cost no more instructions than `bench/instructions.toml` says. Needs valgrind.

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn pieces_cost_no_more_instructions_than_recorded() {
    let has_valgrind = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !has_valgrind {
        println!(
            "SKIPPED: no valgrind, instructions are not counted (Debian: apt-get install valgrind)"
        );
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new("scripts/instructions.sh")
        .arg("check")
        .current_dir(root)
        .output()
        .expect("bash runs the script");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{text}");
    assert!(output.status.success(), "{text}{errors}");
}
