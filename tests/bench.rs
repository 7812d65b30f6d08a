//! `weir bench` becomes the weir-bench beside it: arguments, exit status, and what is said when there
//! is none. A script plays weir-bench: what is tested is the way to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory with `weir` and, if there is a script, `weir-bench`; removed at the end.
struct Installed(PathBuf);

impl Installed {
    fn new(name: &str, script: Option<&str>) -> Installed {
        let dir = std::env::temp_dir().join(format!("weir-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        fs::copy(env!("CARGO_BIN_EXE_weir"), dir.join("weir")).expect("a copy");
        if let Some(script) = script {
            place(&dir.join("weir-bench"), script);
        }
        Installed(dir)
    }

    fn weir(&self, args: &[&str]) -> Output {
        let mut command = Command::new(self.0.join("weir"));
        command.args(args).env("PATH", self.0.join("elsewhere"));
        command.output().expect("weir runs")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("own files");
    }
}

fn place(path: &Path, script: &str) {
    fs::write(path, script).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("own file");
}

const ECHO: &str = "#!/bin/sh\nfor word; do echo \"<$word>\"; done\nexit 7\n";

#[test]
fn every_argument_and_the_exit_status_pass_through() {
    let installed = Installed::new("bench-args", Some(ECHO));
    for args in [
        &["bench"][..],
        &["bench", "--help"],
        &["bench", "-h"],
        &["bench", "--version"],
        &[
            "bench",
            "pair",
            "--a",
            "weir --shards 2",
            "-rate",
            "--",
            "-x",
        ],
    ] {
        let output = installed.weir(args);
        let expected: String = args[1..].iter().map(|word| format!("<{word}>\n")).collect();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
        assert_eq!(output.status.code(), Some(7), "{args:?}");
    }
}

#[test]
fn path_is_the_second_place() {
    let installed = Installed::new("bench-path", None);
    let elsewhere = installed.0.join("elsewhere");
    fs::create_dir_all(&elsewhere).expect("a directory");
    place(&elsewhere.join("weir-bench"), ECHO);
    assert_eq!(installed.weir(&["bench"]).status.code(), Some(7));
}

#[test]
fn a_missing_program_is_named_with_the_places_looked_at() {
    let installed = Installed::new("bench-missing", None);
    let output = installed.weir(&["bench", "pair"]);
    let text = String::from_utf8_lossy(&output.stderr);
    let beside = installed.0.join("weir-bench");
    for part in [beside.to_str().expect("plain"), "PATH", "cargo build"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_program_that_cannot_be_run_says_why() {
    let installed = Installed::new("bench-broken", Some(ECHO));
    let path = installed.0.join("weir-bench");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("own file");
    let output = installed.weir(&["bench"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("cannot run") && text.contains("ermission denied"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(2));
}
