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
    // Scripts in folders below are parts of these.
    let is_command = |path: &PathBuf| {
        let folder = path.parent().and_then(Path::file_name);
        is_executable(path) && folder.is_some_and(|name| name == "scripts" || name == "tuning")
    };
    let commands: Vec<PathBuf> = scripts().into_iter().filter(is_command).collect();
    for name in [
        "install.sh",
        "uninstall.sh",
        "deb.sh",
        "systemd-test.sh",
        "tune.sh",
    ] {
        assert!(
            commands.iter().any(|path| path.ends_with(name)),
            "{name}: {commands:?}"
        );
    }
    for path in commands {
        let output = Command::new(&path).arg("--help").output();
        let output = output.expect("it starts");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}: {output:?}", path.display());
        for part in ["Usage:", "Exit status"] {
            assert!(text.contains(part), "{}: {part} in {text}", path.display());
        }
        let source = std::fs::read_to_string(&path).expect("text");
        for flag in flags(&source) {
            assert!(text.contains(&flag), "{}: {flag} in {text}", path.display());
        }
    }
}

/// The options that a script takes: what stands in front of a `)` of its `case`.
fn flags(source: &str) -> Vec<String> {
    let patterns = source
        .lines()
        .filter_map(|line| line.trim_start().split_once(')'));
    let words = patterns.flat_map(|(pattern, _)| pattern.split('|').map(str::trim));
    let is_flag = |word: &&str| {
        let name = word.strip_prefix("--").unwrap_or_default();
        // The first needs no words, the second is for the tests of the documentation.
        !["", "help", "markdown"].contains(&name)
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '-')
    };
    words.filter(is_flag).map(str::to_owned).collect()
}

#[test]
fn a_program_that_is_none_is_named_with_what_is_allowed() {
    let dir = std::env::temp_dir().join(format!("weir-scripts-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("made");
    let file = dir.join("weir");
    std::fs::write(&file, "not a program").expect("written");
    for script in ["deb.sh", "install.sh"] {
        for (wrong, word) in [
            (dir.join("nothing"), "no such file"),
            (dir.clone(), "not an executable file"),
            (file.clone(), "not an executable file"),
            (PathBuf::from("/bin/ls"), "not a weir (--version says 'ls"),
        ] {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            let mut command = Command::new(root.join("scripts").join(script));
            let out = if script == "deb.sh" {
                "--out"
            } else {
                "--root"
            };
            command
                .arg(out)
                .arg(dir.join("out"))
                .arg("--weir")
                .arg(&wrong);
            let output = command.output().expect("it starts");
            assert_eq!(output.status.code(), Some(2), "{script}: {output:?}");
            let text = String::from_utf8_lossy(&output.stderr);
            let path = wrong.display().to_string();
            for part in [path.as_str(), word, "allowed: a weir that runs here"] {
                assert!(text.contains(part), "{script}: {part} in {text}");
            }
        }
    }
    assert!(!dir.join("out").exists(), "nothing was written");
    std::fs::remove_dir_all(dir).expect("own files");
}

#[test]
fn each_crate_in_the_programs_has_a_licence_that_is_allowed_and_its_notices() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/notices.py");
    let run = |arguments: &[&str]| Command::new(&script).args(arguments).output();
    let Ok(checked) = run(&["--check"]) else {
        println!("skipped: python3 is not on this host");
        return;
    };
    let says = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{says}{checked:?}");
    let notices = run(&[]).expect("as before");
    let text = String::from_utf8_lossy(&notices.stdout);
    for part in [
        "glommio 0.9",
        "MPL-2.0+; https://",
        "Mozilla Public License Version 2.0",
        "Permission is hereby granted",
        "Redistributions of source code must retain",
    ] {
        assert!(text.contains(part), "{part}");
    }
    assert_eq!(
        run(&["--nonsense"]).expect("as before").status.code(),
        Some(2)
    );
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let mode = path.metadata().expect("a file").permissions().mode();
    mode & 0o111 != 0
}

/// What dpkg runs: without an ending, by their names.
fn maintainer_scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/debian");
    ["postinst", "postrm", "prerm"]
        .map(|name| dir.join(name))
        .to_vec()
}

#[test]
fn shellcheck_finds_nothing() {
    let Ok(output) = Command::new("shellcheck")
        .arg("--external-sources")
        .args(scripts())
        .args(maintainer_scripts())
        .output()
    else {
        println!("SKIPPED: shellcheck is not installed");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
}
