//! The scripts are killed, whole process group, at each step of theirs: `mv` stores what was there, `rm`
//! forgets it. A `PATH` with another `mv` and `rm` in front kills at the nth.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::Command;

use crate::tree::{said, Tree};

/// Stages with files, directories, choices and numbers.
const STAGES: &str = "limits isolate hugepages";

/// A directory with a program that kills its process group before or after its nth call.
fn deadly(tree: &Tree, program: &str, n: usize, when: &str) -> String {
    let dir = tree.root().parent().expect("has one").join("bin");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("made");
    let real = ["/bin", "/usr/bin"].map(|place| format!("{place}/{program}"));
    let real = real
        .iter()
        .find(|path| Path::new(path).exists())
        .expect("coreutils");
    let dir = dir.to_str().expect("text").to_owned();
    let kill = format!("[ $n -ne {n} ] || kill -9 0");
    let (before, after) = match when {
        "before" => (kill.as_str(), ""),
        _ => ("", kill.as_str()),
    };
    let script = format!(
        "#!/bin/sh\nn=$(($(cat {dir}/count) + 1))\necho $n >{dir}/count\n\
         {before}\n{real} \"$@\" || exit\n{after}\n"
    );
    fs::write(format!("{dir}/count"), "0").expect("written");
    fs::write(format!("{dir}/{program}"), script).expect("written");
    let path = format!("{dir}/{program}");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
    dir
}

/// Runs it in a process group of its own; whether it was killed.
fn is_killed(mut command: Command, dir: &str) -> bool {
    let path = std::env::var("PATH").expect("a path");
    command
        .env("PATH", format!("{dir}:{path}"))
        .process_group(0);
    let output = command.output().expect("runs");
    match output.status.signal() {
        Some(9) => true,
        None => {
            assert_eq!(output.status.code(), Some(0), "{output:#?}");
            false
        }
        other => panic!("signal {other:?}"),
    }
}

#[test]
fn killed_in_apply() {
    let tree = Tree::stock("crash-apply");
    let before = tree.snapshot();
    let mut kills = 0;
    for when in ["before", "after"] {
        for n in 1.. {
            let dir = deadly(&tree, "mv", n, when);
            let command = tree.tune_command(&format!("apply --yes {STAGES} --cores 2-7"));
            let was_killed = is_killed(command, &dir);
            if was_killed {
                kills += 1;
                // It goes on where it was.
                if n % 5 == 0 {
                    said(&tree.tune(&format!("apply --yes {STAGES}")), 0);
                    said(&tree.tune(&format!("check {STAGES}")), 0);
                }
            }
            said(&tree.tune("revert --yes"), 0);
            assert_eq!(tree.snapshot(), before, "killed {when} step {n}");
            assert!(!tree.state().exists(), "killed {when} step {n}");
            if !was_killed {
                break;
            }
        }
    }
    assert!(kills >= 16, "only {kills} steps");
    println!("apply killed {kills} times");
}

#[test]
fn killed_in_revert() {
    let tree = Tree::stock("crash-revert");
    let before = tree.snapshot();
    let mut kills = 0;
    for when in ["before", "after"] {
        for n in 1.. {
            said(&tree.tune(&format!("apply --yes {STAGES}")), 0);
            let dir = deadly(&tree, "rm", n, when);
            let was_killed = is_killed(tree.tune_command("revert --yes"), &dir);
            kills += usize::from(was_killed);
            said(&tree.tune("revert --yes"), 0);
            assert_eq!(tree.snapshot(), before, "killed {when} step {n}");
            assert!(!tree.state().exists(), "killed {when} step {n}");
            if !was_killed {
                break;
            }
        }
    }
    assert!(kills >= 16, "only {kills} steps");
    println!("revert killed {kills} times");
}

/// Killed while it writes the file that would have been renamed.
#[test]
fn half_a_file_counts_for_nothing() {
    let tree = Tree::stock("crash-half");
    let before = tree.snapshot();
    fs::create_dir_all(tree.state().join("sysctl")).expect("made");
    fs::write(tree.state().join("sysctl/.new"), "number\n/proc/sys/net/co").expect("written");
    said(&tree.tune("revert --yes"), 0);
    assert_eq!(tree.snapshot(), before);
    assert!(!tree.state().exists());
    fs::create_dir_all(tree.state().join("sysctl")).expect("made");
    fs::write(tree.state().join("sysctl/.new"), "number\n/proc/sys/net/co").expect("written");
    said(&tree.tune("apply --yes sysctl"), 0);
    said(&tree.tune("revert --yes"), 0);
    assert_eq!(tree.snapshot(), before);
    assert!(!tree.state().exists());
}
