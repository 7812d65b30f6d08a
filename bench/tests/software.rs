//! A report says which programs were measured: their versions, their paths, Weir's own commit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_weir-bench");
const SMALL: &str = "--rounds 1 --scenario firehose --firehose-messages 20000 --load-cores 0";

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("weir-software-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        Scratch(dir)
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("own file");
        path
    }

    /// `compare` by `bench`, with this directory as the only place to look for peers, and its report.
    fn compare(&self, bench: &Path, more: &[&str]) -> (Output, Value) {
        let mut command = Command::new(bench);
        command.args(["compare", "--json", "r.json", "--peers", "none"]);
        command.args(SMALL.split_whitespace()).args(more);
        command.env("PATH", &self.0).current_dir(&self.0);
        let output = command.output().expect("runs");
        let text = fs::read_to_string(self.0.join("r.json"));
        let text = text.unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
        (output, serde_json::from_str(&text).expect("JSON"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("own files");
    }
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// Copied away from its tree, where there is no git either.
#[test]
fn a_copied_binary_knows_its_commit() {
    let scratch = Scratch::new("copied");
    let bench = scratch.0.join("weir-bench");
    fs::copy(BENCH, &bench).expect("a copy");
    let (output, report) = scratch.compare(&bench, &["--system", "relay"]);
    assert!(output.status.success(), "{}", said(&output));
    let commit = report["fingerprint"]["software"]["commit"].as_str();
    let commit = commit.expect("told");
    assert_eq!(commit, env!("WEIR_COMMIT"));
    let version = report["series"][0]["parameters"]["version"].as_str();
    assert!(version.is_some_and(|v| v.contains(commit)), "{version:?}");
    // In a tree of git's it is that tree's; a tarball has none.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let git = Command::new("git")
        .arg("-C")
        .arg(&root)
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    match git {
        Ok(head) if head.status.success() && root.join(".git").exists() => {
            let head = String::from_utf8_lossy(&head.stdout).trim().to_owned();
            assert!(commit.starts_with(&head), "{commit} is not {head}");
        }
        _ => println!("SKIPPED: no git tree around the sources: commit {commit}"),
    }
}

#[test]
fn an_old_haproxy_on_the_path_is_refused_and_one_that_is_named_is_told() {
    let scratch = Scratch::new("haproxy");
    let old = "#!/bin/sh\n[ \"$1\" = -v ] && echo 'HAProxy version 2.6.12-1+deb12u3 2025/10/03'\n";
    let path = scratch.script("haproxy", old);
    let systems = ["--system", "relay", "--system", "haproxy-log"];
    let (_, report) = scratch.compare(Path::new(BENCH), &systems);
    let failed = report["series"][1]["failed"].as_str().expect("refused");
    let shown = path.display().to_string();
    for part in [
        "2.6.12",
        &shown,
        "3.0 or later",
        "weights",
        "--haproxy PATH",
    ] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    // Named, it is the user's affair: it does not start, but what it is stands in the report.
    let named = [&systems[..], &["--haproxy", &shown]].concat();
    let (_, report) = scratch.compare(Path::new(BENCH), &named);
    let parameters = &report["series"][1]["parameters"];
    assert_eq!(parameters["binary"], shown.as_str(), "{parameters}");
    let version = parameters["version"].as_str().unwrap_or_default();
    assert!(
        version.starts_with("HAProxy version 2.6.12"),
        "{parameters}"
    );
    // A newer one is taken from the path.
    scratch.script("haproxy", &old.replace("2.6.12", "3.0.11"));
    let (_, report) = scratch.compare(Path::new(BENCH), &systems);
    let failed = report["series"][1]["failed"].as_str().unwrap_or_default();
    assert!(!failed.contains("or later is needed"), "{failed}");
    assert_eq!(report["series"][1]["parameters"]["binary"], shown.as_str());
}
