//! Which build was measured.

use std::path::Path;
use std::process::Command;

use super::Section;

const UNKNOWN: &str = "unknown";

pub(super) fn section() -> Section {
    let mut section = Section::new();
    section.insert("weir-bench".into(), env!("CARGO_PKG_VERSION").into());
    section.insert("commit".into(), commit());
    let profile = if cfg!(debug_assertions) {
        "debug: figures say nothing"
    } else {
        "release"
    };
    section.insert("weir-bench profile".into(), profile.into());
    section
}

/// `WEIR_COMMIT` at build time (packages), else what git says of the tree that the binary lies in.
fn commit() -> String {
    if let Some(commit) = option_env!("WEIR_COMMIT") {
        return commit.into();
    }
    let described = std::env::current_exe().ok().and_then(|exe| {
        exe.ancestors()
            .find(|d| d.join(".git").exists())
            .map(describe)
    });
    described.flatten().unwrap_or_else(|| UNKNOWN.into())
}

fn describe(tree: &Path) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(tree)
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(format!("{} (the tree around the binary)", text.trim()))
}
