//! What people read: arguments, help, documentation. Shellcheck: tests/scripts.rs.

use std::path::Path;
use std::process::{Command, Output};

use crate::tree::{said, script, Tree};

fn tune(line: &str) -> Output {
    let mut command = Command::new(script());
    command
        .args(line.split_whitespace())
        .output()
        .expect("tune.sh runs")
}

#[test]
fn bad_arguments_are_named() {
    let tree = Tree::stock("arguments");
    let root = tree.root();
    let root = format!("--root {}", root.display());
    for (line, words) in [
        ("", vec!["Usage"]),
        ("--yes", vec!["Usage"]),
        ("sysctl", vec!["sysctl", "first say what to do"]),
        ("check revert", vec!["revert", "not two"]),
        (
            "apply sysctrl",
            vec!["sysctrl", "no such stage", "hugepages"],
        ),
        ("check --fast", vec!["--fast", "--help"]),
        ("check --yes=1", vec!["--yes", "takes no value"]),
        ("check --cores", vec!["--cores", "missing"]),
        (
            &format!("check {root} --cores 7-2"),
            vec!["--cores 7-2", "numbers and ranges"],
        ),
        (
            &format!("check {root} --cores 2,x"),
            vec!["--cores 2,x", "numbers and ranges"],
        ),
        (
            &format!("check {root} --cores 2-9"),
            vec!["no core 8", "0-7"],
        ),
        (
            &format!("check {root} --nic eth9"),
            vec!["--nic eth9", "eth0"],
        ),
        (
            &format!("check {root} --nic ../eth0"),
            vec!["--nic ../eth0"],
        ),
        (
            "check --root /nowhere",
            vec!["/nowhere", "no such directory"],
        ),
        ("apply --user a:b", vec!["a:b", "letters"]),
    ] {
        let output = tune(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        for word in words {
            assert!(text.contains(word), "{line}: {word} in {text}");
        }
    }
}

#[test]
fn help_teaches() {
    let text = said(&tune("--help"), 0);
    for word in [
        "--cores",
        "--state",
        "revert",
        "Exit status",
        "limits",
        "hugepages",
        "sudo",
    ] {
        assert!(text.contains(word), "{word}");
    }
    assert_eq!(said(&tune("apply sysctl -h"), 0), text);
}

/// Every stage has its reasons, and every setting of its own.
#[test]
fn stages_explain_themselves() {
    let text = said(&tune("explain"), 0);
    for part in ["Gain: ", "Risk: ", "Sources: "] {
        assert_eq!(text.matches(part).count(), 9, "{part}");
        assert!(
            !text.contains(&format!("{part}\n")),
            "{part}of a stage is empty"
        );
    }
    let reasons = text.matches("      reason  ").count();
    assert_eq!(text.matches("      wanted  ").count(), reasons);
    assert!(reasons > 25, "{reasons}");
    assert!(!text.contains("reason  \n"), "a setting without a reason");
}

#[test]
fn the_documentation_has_what_the_stages_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/TUNING.md");
    let document = std::fs::read_to_string(path).expect("docs/TUNING.md");
    let text = said(&tune("explain --markdown"), 0);
    assert!(
        document.contains(text.trim()),
        "docs/TUNING.md is old: put `tuning/tune.sh explain --markdown` between its marks"
    );
}
