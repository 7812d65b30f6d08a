//! Programs of others: where they are, and what they need to run from a folder.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `scripts/senders.sh` unpacks.
fn unpacked() -> PathBuf {
    if let Some(folder) = std::env::var_os("WEIR_SENDERS") {
        return folder.into();
    }
    let program = Path::new(weir_testkit::process::weir());
    let built = program.ancestors().nth(2).unwrap_or(program);
    built.join("senders")
}

fn libraries() -> PathBuf {
    let arch = format!("{}-linux-gnu", std::env::consts::ARCH);
    unpacked().join("usr/lib").join(arch)
}

fn skipped(what: &str) {
    println!("skipped: there is no {what}; scripts/senders.sh fetches it");
}

/// Python that has a module. None, and a line that says so: there is none.
pub fn python(module: &str) -> Option<Command> {
    let program = unpacked().join("python/bin/python");
    let has_module = Command::new(&program)
        .args(["-c", &format!("import {module}")])
        .output();
    if !has_module.is_ok_and(|output| output.status.success()) {
        skipped(&format!("Python module {module}"));
        return None;
    }
    Some(Command::new(program))
}

/// Node that has a package. None, and a line that says so: there is none.
pub fn node(package: &str) -> Option<Command> {
    let modules = unpacked().join("npm/node_modules");
    let version = Command::new("node").arg("--version").output();
    if version.is_err() || !modules.join(package).is_dir() {
        skipped(&format!("npm package {package}"));
        return None;
    }
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules);
    Some(command)
}

/// rsyslogd with its modules. None, and a line that says so: it is not unpacked.
pub fn rsyslog() -> Option<Command> {
    let program = unpacked().join("usr/sbin/rsyslogd");
    let modules = libraries().join("rsyslog");
    if !program.is_file() || !modules.join("omrelp.so").is_file() {
        skipped("rsyslogd with omrelp");
        return None;
    }
    let mut command = Command::new(program);
    command.arg("-M").arg(modules);
    command.env("LD_LIBRARY_PATH", libraries());
    Some(command)
}
