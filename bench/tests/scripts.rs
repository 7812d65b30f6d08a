//! The scripts say what they do and refuse what they do not know, with the status that they promise.

use std::path::Path;
use std::process::{Command, Output};

const SCRIPTS: [&str; 4] = ["peers.sh", "load-test.sh", "demo.sh", "instructions.sh"];

fn script(name: &str, args: &[&str]) -> Output {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../scripts")
        .join(name);
    Command::new(path)
        .args(args)
        .output()
        .expect("bash runs it")
}

#[test]
fn help_names_usage_and_exit_status() {
    for name in SCRIPTS {
        let output = script(name, &["--help"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}");
        assert!(
            text.contains("Usage: ") && text.contains("Exit status"),
            "{name}: {text}"
        );
    }
}

#[test]
fn an_unknown_word_is_a_usage_error_that_names_it() {
    for name in ["peers.sh", "load-test.sh", "instructions.sh"] {
        let output = script(name, &["--colour"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {text}");
        assert!(text.contains("--colour"), "{name}: {text}");
    }
}

/// Looking, and removing what is not there, leave nothing behind.
#[test]
fn only_install_makes_the_directory_of_peers() {
    let dir = std::env::temp_dir().join(format!("weir-no-peers-{}", std::process::id()));
    let shown = dir.to_str().expect("plain");
    let check = script("peers.sh", &["check", "--root", shown]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    let text = String::from_utf8_lossy(&check.stdout);
    assert!(text.contains("nginx: not there"), "{text}");
    assert!(!dir.exists(), "check made {shown}");
    let remove = script("peers.sh", &["remove", "--root", shown]);
    assert_eq!(remove.status.code(), Some(0), "{remove:?}");
    assert!(!dir.exists(), "remove made {shown}");
}
