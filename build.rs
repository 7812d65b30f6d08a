//! Which commit this is, compiled in as `WEIR_COMMIT`, so that a copied binary knows it. For both packages.
//!
//! ```text
//! $WEIR_COMMIT, if set (packages)  >  git, if this is the root of its tree  >  "unknown" (a tarball)
//! ```
//!
//! Runs again when a commit is made or checked out, or a source changes: never for nothing, so that a build
//! of what is built already does nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=WEIR_COMMIT");
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    // The workspace is the package or around it.
    let root = match package.join("Cargo.lock").exists() {
        true => package.clone(),
        false => package.parent().unwrap_or(&package).to_path_buf(),
    };
    let sources = [
        root.join("src"),
        root.join("build.rs"),
        root.join("Cargo.toml"),
        root.join("Cargo.lock"),
        package.join("src"),
        package.join("peers"),
        package.join("Cargo.toml"),
    ];
    // A path that does not exist would mean: always.
    let sources: Vec<&PathBuf> = sources.iter().filter(|path| path.exists()).collect();
    for source in &sources {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    let given = std::env::var("WEIR_COMMIT").ok();
    let commit = given.or_else(|| commit(&root, &sources));
    let commit = commit.unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=WEIR_COMMIT={commit}");
}

/// Twelve digits, and `-dirty` when a source that goes into the binary is not as committed.
fn commit(root: &Path, sources: &[&PathBuf]) -> Option<String> {
    // A tarball below somebody else's tree is not that tree.
    let top = PathBuf::from(git(root, &["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != root.canonicalize().ok()? {
        return None;
    }
    let commit = git(root, &["rev-parse", "--short=12", "HEAD"])?;
    for file in ["HEAD", "logs/HEAD"] {
        let path = root.join(git(root, &["rev-parse", "--git-path", file])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let mut status = vec!["status", "--porcelain", "--untracked-files=no", "--"];
    status.extend(sources.iter().filter_map(|path| path.to_str()));
    let dirty = if git(root, &status)?.is_empty() {
        ""
    } else {
        "-dirty"
    };
    Some(format!("{commit}{dirty}"))
}

/// What git says; `None` without git or outside a tree.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // The index is not refreshed: building changes nothing in the tree.
    command.arg("--no-optional-locks").arg("-C").arg(root);
    let output = command.args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
