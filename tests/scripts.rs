//! Every script explains itself and is clean by shellcheck.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The shell scripts of the repository.
fn scripts() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["scripts", "tuning", "systemd"]
        .iter()
        .map(|folder| root.join(folder))
        .filter(|folder| folder.exists())
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "sh") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_command_has_help() {
    let commands: Vec<PathBuf> = scripts()
        .into_iter()
        .filter(|path| is_executable(path))
        .collect();
    assert!(commands.len() >= 7, "{commands:?}");
    for path in commands {
        let output = Command::new(&path).arg("--help").output();
        let output = output.expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {output:?}", path.display());
        assert!(text.lines().count() >= 3, "{}: {text}", path.display());
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let mode = path.metadata().expect("a file").permissions().mode();
    mode & 0o111 != 0
}

#[test]
fn shellcheck_finds_nothing() {
    let Ok(output) = Command::new("shellcheck")
        .arg("--external-sources")
        .args(scripts())
        .output()
    else {
        println!("SKIPPED: shellcheck is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}
