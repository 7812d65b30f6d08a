//! Image, Compose and profiles, as far as that can be seen without an engine. `scripts/containers-test.sh` runs
//! them for real.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use saphyr::{LoadableYamlNode, Yaml};
use serde_json::Value;

/// What Weir stands on, and default profiles forbid.
const URING: [&str; 3] = ["io_uring_enter", "io_uring_register", "io_uring_setup"];

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn profile(name: &str) -> Value {
    let text = read(&format!("deploy/seccomp/{name}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Calls that a profile allows, with whatever arguments.
fn allowed(profile: &Value) -> BTreeSet<String> {
    let calls = profile["syscalls"].as_array().expect("a list");
    let allowing = calls
        .iter()
        .filter(|call| call["action"] == "SCMP_ACT_ALLOW");
    let names = allowing.flat_map(|call| call["names"].as_array().expect("names"));
    names
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn profiles_refuse_what_they_do_not_name_and_allow_io_uring() {
    for name in ["weir.json", "weir-strict.json"] {
        let profile = profile(name);
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO", "{name}");
        // EPERM: what is refused is named by the program, and nobody takes the kernel for an old one.
        assert_eq!(profile["defaultErrnoRet"], 1, "{name}");
        let allowed = allowed(&profile);
        for call in URING {
            assert!(allowed.contains(call), "{name}: {call}");
        }
        for call in [
            "bpf",
            "keyctl",
            "mount",
            "perf_event_open",
            "personality",
            "ptrace",
            "reboot",
            "setns",
            "unshare",
            "userfaultfd",
        ] {
            assert!(!allowed.contains(call), "{name}: {call}");
        }
        let calls = profile["syscalls"].as_array().expect("a list");
        let of = |name: &str| -> Vec<&Value> {
            let is_named = |call: &&Value| {
                let names = call["names"].as_array().expect("names");
                names.iter().any(|it| it == name)
            };
            calls.iter().filter(is_named).collect()
        };
        // Sockets by family, threads without namespaces; clone3 hides its flags, so it is not there (ENOSYS).
        assert!(of("socket").iter().all(|call| call["args"].is_array()));
        let [clone] = of("clone")[..] else {
            panic!("{name}: one rule for clone");
        };
        assert_eq!(clone["args"][0]["op"], "SCMP_CMP_MASKED_EQ", "{name}");
        assert_eq!(clone["args"][0]["value"], 0x7e02_0000, "{name}");
        let [clone3] = of("clone3")[..] else {
            panic!("{name}: one rule for clone3");
        };
        assert_eq!(clone3["errnoRet"], 38, "{name}");
    }
}

#[test]
fn the_strict_profile_is_within_the_other_one_and_within_the_units_list() {
    let strict = allowed(&profile("weir-strict.json"));
    let more: Vec<String> = strict
        .difference(&allowed(&profile("weir.json")))
        .cloned()
        .collect();
    assert!(more.is_empty(), "weir.json has not: {more:?}");
    let Some(of_the_unit) = unit_list() else {
        println!("SKIPPED: systemd-analyze is missing, which knows the unit's list");
        return;
    };
    // What systemd's groups of today do not know yet.
    let newer = ["futex_wait", "futex_wake"];
    let more: Vec<&String> = strict
        .difference(&of_the_unit)
        .filter(|name| !newer.contains(&name.as_str()))
        .collect();
    assert!(more.is_empty(), "systemd/weir.service has not: {more:?}");
}

/// The calls that the unit's `SystemCallFilter=` lines leave.
fn unit_list() -> Option<BTreeSet<String>> {
    let unit = read("systemd/weir.service");
    let mut list = BTreeSet::new();
    for line in unit.lines() {
        let Some(words) = line.strip_prefix("SystemCallFilter=") else {
            continue;
        };
        let (is_denied, words) = match words.strip_prefix('~') {
            Some(words) => (true, words),
            None => (false, words),
        };
        for word in words.split_whitespace() {
            for name in resolved(word)? {
                if is_denied {
                    list.remove(&name);
                } else {
                    list.insert(name);
                }
            }
        }
    }
    assert!(list.len() > 100, "{list:?}");
    Some(list)
}

/// The calls of a group and of the groups in it, or the call itself.
fn resolved(word: &str) -> Option<Vec<String>> {
    if !word.starts_with('@') {
        return Some(vec![word.to_owned()]);
    }
    let output = Command::new("systemd-analyze")
        .args(["syscall-filter", word])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).expect("text");
    let mut calls = Vec::new();
    for line in text.lines().skip(1).map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            calls.extend(resolved(line)?);
        }
    }
    Some(calls)
}

#[test]
fn no_container_of_compose_can_do_what_it_does_not_need() {
    let text = read("compose.yaml");
    let documents = Yaml::load_from_str(&text).expect("YAML");
    let services = documents[0]["services"].as_mapping().expect("services");
    assert!(services.len() >= 9, "{}", services.len());
    for (name, service) in services {
        let name = name.as_str().expect("a name");
        let value = |key: &str| merged(service, key);
        assert_eq!(
            value("read_only").and_then(Yaml::as_bool),
            Some(true),
            "{name}"
        );
        let drops = value("cap_drop").and_then(Yaml::as_vec).expect("cap_drop");
        assert_eq!(drops[0].as_str(), Some("ALL"), "{name}");
        let options = value("security_opt").and_then(Yaml::as_vec);
        let options: Vec<&str> = options
            .expect("security_opt")
            .iter()
            .filter_map(Yaml::as_str)
            .collect();
        assert!(options.contains(&"no-new-privileges:true"), "{name}");
        let has_profile = options.iter().any(|it| it.starts_with("seccomp:"));
        assert_eq!(has_profile, name == "distributor", "{name}");
        // Ports on this host only: there is no TLS.
        for port in value("ports").and_then(Yaml::as_vec).into_iter().flatten() {
            let port = port.as_str().expect("text");
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

/// A value of a service itself, or of what it is merged with.
fn merged<'a>(service: &'a Yaml<'a>, key: &str) -> Option<&'a Yaml<'a>> {
    let found = |name: &str| {
        let entries = service.as_mapping()?.iter();
        let mut values = entries.filter(|(key, _)| key.as_str() == Some(name));
        values.next().map(|(_, value)| value)
    };
    found(key).or_else(|| merged(found("<<")?, key))
}

#[test]
fn the_image_runs_as_a_number_and_takes_its_file() {
    let text = read("Dockerfile");
    let last = text.rsplit("\nFROM ").next().expect("a stage");
    assert!(last.starts_with("scratch\n"), "{last}");
    let user = last.lines().find_map(|line| line.strip_prefix("USER "));
    let user = user.expect("a user").split(':').next().expect("a part");
    assert!(user.parse::<u32>().is_ok_and(|user| user >= 1000), "{user}");
    assert!(last.contains("HEALTHCHECK"), "{last}");

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/container/weir.toml");
    let output = Command::new(weir_testkit::process::weir())
        .arg("check")
        .arg(file)
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
}
