//! The minimum Rust version is true of what we depend on. That our own code keeps to it is clippy's
//! `incompatible_msrv` for the standard library, and the nightly tier's build with that version.

use std::process::Command;

use serde_json::Value;

use super::root;

#[test]
fn no_crate_needs_a_newer_rust_than_we_say() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command
        .current_dir(root())
        .args(["metadata", "--format-version", "1"]);
    command.args([
        "--locked",
        "--offline",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]);
    let output = command.output().expect("cargo");
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && errors.contains("offline") {
        println!("skipped: a crate of another platform is not here: {errors}");
        return;
    }
    assert!(output.status.success(), "{errors}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");

    let used: Vec<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().find(|package| package["name"] == "weir");
    let minimum = version(&ours.expect("the package")["rust_version"]).expect("rust-version");
    let mut looked_at = 0;
    for package in packages {
        if !used.contains(&package["id"].as_str().expect("an id")) {
            continue;
        }
        let Some(needed) = version(&package["rust_version"]) else {
            continue; // it does not say
        };
        looked_at += 1;
        assert!(
            needed <= minimum,
            "{} {} needs Rust {}, and Cargo.toml says {minimum:?}",
            package["name"],
            package["version"],
            package["rust_version"]
        );
    }
    assert!(looked_at > 50, "only {looked_at} crates say what they need");
}

/// `1.88` or `1.88.0` as numbers that can be compared.
fn version(text: &Value) -> Option<(u32, u32, u32)> {
    let mut parts = text.as_str()?.split('.').map(|part| part.parse().ok());
    let mut next = || parts.next().unwrap_or(Some(0));
    Some((next()?, next()?, next()?))
}
