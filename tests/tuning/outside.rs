//! `--root`: the tree is the world. What is outside is neither read nor written, and nothing of the tree runs.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::tree::{said, script, Tree, WEIR};

/// As an operator would call it: without the flag of the tests.
fn tune(tree: &Tree, line: &str) -> Output {
    let mut command = Command::new(script());
    command
        .args(line.split_whitespace())
        .arg("--root")
        .arg(tree.root());
    command.output().expect("tune.sh runs")
}

/// Puts a link where something was.
fn link(tree: &Tree, path: &str, target: &Path) {
    let path = tree.root().join(path);
    let _ = fs::remove_dir_all(&path);
    let _ = fs::remove_file(&path);
    symlink(target, path).expect("a link");
}

/// Beside the tree, with this in it.
fn outside(tree: &Tree, name: &str, text: &str) -> PathBuf {
    let path = tree.root().parent().expect("has one").join(name);
    fs::write(&path, text).expect("written");
    path
}

/// A program of the tree that says that it was run.
fn plant_program(tree: &Tree, path: &str) -> PathBuf {
    let mark = tree.root().parent().expect("has one").join("was-run");
    let program = format!("#!/bin/sh\ntouch {}\n", mark.display());
    tree.write(path, &program);
    let path = tree.root().join(path);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("own file");
    mark
}

#[test]
fn no_program_of_the_tree_is_run() {
    let tree = Tree::stock("outside-programs");
    let mut marks = Vec::new();
    for name in ["ethtool", "flock", "find", "cat", "sync", "readlink"] {
        for dir in ["usr/sbin", "usr/bin", "bin", "sbin"] {
            marks.push(plant_program(&tree, &format!("{dir}/{name}")));
        }
    }
    for line in ["check --verbose", "apply --yes", "revert --yes"] {
        said(&tune(&tree, line), i32::from(line.starts_with("check")));
    }
    let mut doctor = Command::new(WEIR);
    doctor.args(["doctor", "--all", "--root"]).arg(tree.root());
    doctor.output().expect("weir runs");
    assert!(marks.iter().all(|mark| !mark.exists()), "something was run");

    // The same with the flag, so that the mark is known to work.
    let mut command = tree.tune_command("check coalescing");
    command.output().expect("tune.sh runs");
    assert!(marks[0].exists());
    fs::remove_file(&marks[0]).expect("made by it");
    doctor.arg("--test-run-tools-of-root");
    doctor.output().expect("weir runs");
    assert!(marks[0].exists());

    let output = Command::new(script())
        .args(["check", "--test-run-tools-of-root"])
        .output()
        .expect("tune.sh runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("only with --root"), "{text}");
}

#[test]
fn what_leads_out_is_refused_and_named() {
    let tree = Tree::stock("outside-links");
    let number = outside(&tree, "number", "7\n");
    let number_up = outside(&tree, "number-up", "8\n");
    let limits = outside(&tree, "limits", "mine\n");
    fs::create_dir_all(tree.root().parent().expect("has one").join("queues/rx-0")).expect("made");
    let mask = outside(&tree, "queues/rx-0/rps_cpus", "ff\n");
    let boot = outside(&tree, "boot", "secret\n");
    link(&tree, "proc/sys/net/core/somaxconn", &number);
    link(
        &tree,
        "proc/sys/net/core/busy_read",
        Path::new("../../../../../number-up"),
    );
    link(&tree, "etc/security/limits.d/90-weir.conf", &limits);
    let queues = mask.ancestors().nth(2).expect("has one").to_owned();
    link(&tree, "sys/class/net/eth0/queues", &queues);
    link(&tree, "proc/sys/kernel/random/boot_id", &boot);
    let before = tree.snapshot();
    let leads_out = [
        "/proc/sys/net/core/somaxconn",
        "/proc/sys/net/core/busy_read",
        "/etc/security/limits.d/90-weir.conf",
        "/sys/class/net/eth0/queues",
        "/proc/sys/kernel/random/boot_id",
    ];
    for line in ["check", "apply", "apply --yes", "revert --yes"] {
        let output = tune(&tree, line);
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        for path in leads_out.iter().filter(|_| !line.starts_with("revert")) {
            assert!(
                text.contains(&format!("{path} leads out")),
                "{line}: {path}: {text}"
            );
        }
        if line == "apply --yes" {
            assert_eq!(tree.read("proc/sys/net/core/netdev_max_backlog"), "16384");
            let stored = files_with(&tree.root().join("var"), "secret");
            assert!(stored.is_empty(), "read from outside: {stored:?}");
        }
    }
    for (path, text) in [
        (number, "7\n"),
        (number_up, "8\n"),
        (limits, "mine\n"),
        (mask, "ff\n"),
    ] {
        assert_eq!(fs::read_to_string(path).expect("there"), text);
    }
    fs::remove_dir_all(tree.root().join("var")).expect("where it was stored");
    assert_eq!(tree.snapshot(), before);
}

fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read_to_string(&path).is_ok_and(|is| is.contains(text)) {
            found.push(path);
        }
    }
    found
}

/// A link that begins with a slash, as in an image: it begins at the tree.
#[test]
fn links_within_the_tree_are_followed_as_if_it_were_the_root() {
    let tree = Tree::stock("outside-within");
    tree.write("data/somaxconn", "5");
    link(
        &tree,
        "proc/sys/net/core/somaxconn",
        Path::new("/data/../data/somaxconn"),
    );
    fs::create_dir_all(tree.root().join("data/lib")).expect("made");
    fs::create_dir_all(tree.root().join("var")).expect("made");
    link(&tree, "var/lib", Path::new("/data/lib"));
    let before = tree.snapshot();
    said(&tune(&tree, "apply --yes sysctl limits"), 0);
    assert_eq!(tree.read("data/somaxconn"), "16384");
    assert!(tree.root().join("data/lib/weir-tuning/sysctl").is_dir());
    said(&tune(&tree, "revert --yes"), 0);
    assert_eq!(tree.snapshot(), before);

    // Where the state would be is outside.
    let elsewhere = outside(&tree, "elsewhere", "");
    fs::remove_file(&elsewhere).expect("own file");
    fs::create_dir(&elsewhere).expect("made");
    link(&tree, "var/lib", &elsewhere);
    let output = tune(&tree, "apply --yes sysctl");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("/var/lib/weir-tuning leads out"), "{text}");
    assert_eq!(tree.read("data/somaxconn"), "5");
    assert!(fs::read_dir(elsewhere).expect("there").next().is_none());
}

#[test]
fn the_doctor_looks_at_nothing_outside() {
    let tree = Tree::healthy("outside-doctor");
    let number = outside(&tree, "number", "7\n");
    link(&tree, "proc/sys/net/core/somaxconn", &number);
    let (_, report) = tree.doctor("--cores 2-7");
    assert!(!report.to_string().contains("somaxconn is 7"), "{report:#}");
    tree.write("data/somaxconn", "5");
    link(
        &tree,
        "proc/sys/net/core/somaxconn",
        Path::new("/data/somaxconn"),
    );
    let (_, report) = tree.doctor("--cores 2-7");
    assert!(report.to_string().contains("somaxconn is 5"), "{report:#}");
}
