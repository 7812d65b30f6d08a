//! The units, and the scripts that install them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use weir_testkit::process::{run, weir};
use weir_testkit::{process, Scratch};

const UNITS: [&str; 5] = [
    "weir.service",
    "weir.socket",
    "weir-analyzers.socket",
    "weir-http.socket",
    "weir-tuning.service",
];

/// Drop-ins, and of what. All at once, but for notify-reload.conf: it needs systemd 253.
const EXAMPLES: [(&str, &str); 6] = [
    ("cores.conf", "weir.service"),
    ("isolate.conf", "weir.service"),
    ("tokens.conf", "weir.service"),
    ("irq.conf", "weir-tuning.service"),
    ("socket-per-shard.conf", "weir.socket"),
    ("weir-slice.conf", "weir.slice"),
];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn script(name: &str, args: &[&str]) -> Output {
    let output = Command::new(repository("scripts").join(name))
        .args(args)
        .output();
    output.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Installs below a scratch directory.
fn install(scratch: &Scratch) -> PathBuf {
    let root = scratch.path("root");
    let text = root.to_str().expect("UTF-8");
    let output = script(
        "install.sh",
        &["--root", text, "--weir", &programs(scratch)],
    );
    assert!(output.status.success(), "{output:?}");
    root
}

/// Whether a program is there; says so when it is not.
fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("SKIPPED: {program} is missing");
    }
    found
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.expect("readable").path();
        match path.is_dir() && !path.is_symlink() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !is_there("systemd-analyze") {
        return;
    }
    let scratch = Scratch::new("verify");
    let root = install(&scratch);
    let units = root.join("usr/lib/systemd/system");
    for (example, unit) in EXAMPLES {
        let dir = units.join(format!("{unit}.d"));
        fs::create_dir_all(&dir).expect("made");
        fs::copy(
            repository("systemd/examples").join(example),
            dir.join(example),
        )
        .expect("copied");
    }
    // What every system has.
    for target in files(Path::new("/usr/lib/systemd/system")) {
        let name = target.file_name().expect("a file").to_owned();
        if target
            .extension()
            .is_some_and(|e| e == "target" || e == "mount" || e == "slice")
        {
            let _ = fs::copy(&target, units.join(name));
        }
    }
    if !root.join("usr/share/weir/tuning/tune.sh").exists() {
        println!("there is no tuning/tune.sh: weir-tuning.service is looked at without it");
    }
    let mut command = Command::new("systemd-analyze");
    command
        .arg("--man=no")
        .arg(format!("--root={}", root.display()));
    let output = command.arg("verify").args(UNITS).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours = text.lines().filter(|line| line.contains("weir"));
    let complaints: Vec<&str> = ours
        .filter(|line| !line.contains("tune.sh is not executable: No such file"))
        // Every system has one; this root has none.
        .filter(|line| !line.contains("/bin/sh is not executable: No such file"))
        .collect();
    assert!(complaints.is_empty(), "{text}");
}

#[test]
fn exposure_is_two_or_lower() {
    if !is_there("systemd-analyze") {
        return;
    }
    let scratch = Scratch::new("security");
    let root = install(&scratch);
    let mut command = Command::new("systemd-analyze");
    command.arg(format!("--root={}", root.display()));
    command.args([
        "security",
        "--offline=yes",
        "--threshold=20",
        "weir.service",
    ]);
    let output = command.output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{}", text.lines().last().unwrap_or_default());
    assert!(output.status.success(), "{text}");
}

/// Values of a directive in a unit.
fn directive(unit: &str, name: &str) -> Vec<String> {
    let text = fs::read_to_string(repository("systemd").join(unit)).expect("readable");
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .filter_map(|rest| rest.strip_prefix('='))
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_the_unit_runs_is_understood_by_the_program() {
    let scratch = Scratch::new("exec");
    let root = install(&scratch);
    let config = root.join("etc/weir/weir.toml");
    let config = config.to_str().expect("UTF-8");
    let words = |line: &str| -> Vec<String> {
        let line = line.replace("/etc/weir/weir.toml", config);
        line.split_whitespace().map(str::to_owned).collect()
    };
    let start = directive("weir.service", "ExecStart");
    let start = words(&start[0]);
    assert_eq!(start[..2], ["/usr/bin/weir", "distributor"]);
    let flags: Vec<&str> = start[2..].iter().map(String::as_str).collect();
    let effective = run(&[&["config", "--effective"], &flags[..]].concat());
    assert!(effective.status.success(), "{effective:?}");
    let check = run(&["check", config]);
    assert!(check.status.success(), "{check:?}");
    let reload = words(&directive("weir.service", "ExecReload")[0]);
    let mut reload: Vec<&str> = reload[1..].iter().map(String::as_str).collect();
    reload.push("--help");
    assert!(run(&reload).status.success(), "{reload:?}");
}

/// A limit on starts that is reached closes the sockets too: who connects is refused, and a file that is mended
/// does not bring them back.
#[test]
fn a_start_that_fails_costs_no_socket() {
    assert_eq!(directive("weir.service", "StartLimitIntervalSec"), ["0"]);
    for refused in [
        "StartLimitBurst",
        "RestartPreventExitStatus",
        "ExecStartPre",
    ] {
        assert!(directive("weir.service", refused).is_empty(), "{refused}");
    }
    // The pause that keeps it from being tried as fast as it fails, as the shell that it is for reads it.
    let pause = &directive("weir.service", "ExecStopPost")[0];
    let script = pause.replace("$$", "$");
    let script = script.strip_prefix("/bin/sh -c '").expect("a shell's");
    let script = script.strip_suffix('\'').expect("its end");
    for (result, pauses) in [("exit-code", true), ("success", false), ("watchdog", false)] {
        let began = std::time::Instant::now();
        let mut shell = std::process::Command::new("sh");
        let status = shell
            .args(["-c", script])
            .env("SERVICE_RESULT", result)
            .status();
        assert!(status.expect("runs").success(), "{result}");
        let took = began.elapsed();
        assert_eq!(
            took > std::time::Duration::from_millis(1900),
            pauses,
            "{result} {took:?}"
        );
    }
}

#[test]
fn sockets_have_the_names_and_addresses_that_the_distributor_expects() {
    for (unit, name, setting) in [
        ("weir.socket", "emitters", "emitters"),
        ("weir-analyzers.socket", "analyzers", "analyzers"),
        ("weir-http.socket", "http", "http"),
    ] {
        assert_eq!(directive(unit, "FileDescriptorName"), [name]);
        assert_eq!(directive(unit, "Service"), ["weir.service"]);
        // The program's own default, so that it makes no difference who listens.
        let output = run(&["config", "--effective"]);
        let text = String::from_utf8(output.stdout).expect("text");
        let default = directive(unit, "ListenStream");
        let wanted = format!("{setting} = \"{}\"", default[0]);
        assert!(text.contains(&wanted), "{wanted}: {text}");
    }
}

#[test]
fn io_uring_and_pinning_are_allowed_and_memory_may_be_locked() {
    let filters = directive("weir.service", "SystemCallFilter");
    let (denied, allowed): (Vec<_>, Vec<_>) = filters.iter().partition(|f| f.starts_with('~'));
    assert!(
        denied.iter().any(|f| f.contains("@privileged")),
        "{filters:?}"
    );
    let words: Vec<&str> = allowed.iter().flat_map(|f| f.split_whitespace()).collect();
    for call in [
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "sched_setaffinity",
    ] {
        assert!(words.contains(&call), "{call}: {words:?}");
    }
    assert_eq!(directive("weir.service", "LimitMEMLOCK"), ["infinity"]);
    assert_eq!(directive("weir.service", "DynamicUser"), ["yes"]);
}

#[test]
fn what_is_installed_can_be_taken_away_again() {
    let scratch = Scratch::new("install");
    let dry = scratch.path("dry");
    let dry_run = script(
        "install.sh",
        &[
            "--dry-run",
            "--weir",
            weir(),
            "--root",
            dry.to_str().expect("UTF-8"),
        ],
    );
    assert!(dry_run.status.success(), "{dry_run:?}");
    assert!(!dry.exists(), "a dry run writes nothing");

    let root = install(&scratch);
    let text = root.to_str().expect("UTF-8");
    let installed = files(&root);
    for wanted in [
        "usr/bin/weir",
        "usr/lib/systemd/system/weir.service",
        "usr/share/man/man1/weir.1",
    ] {
        assert!(
            installed.contains(&root.join(wanted)),
            "{wanted}: {installed:#?}"
        );
    }
    bench_runs(&root);
    // The operator's configuration is not overwritten.
    let config = root.join("etc/weir/weir.toml");
    fs::write(&config, "[cores]\nshards = 1\n").expect("written");
    install(&scratch);
    assert_eq!(
        fs::read_to_string(&config).expect("text"),
        "[cores]\nshards = 1\n"
    );
    assert!(root.join("etc/weir/weir.toml.new").exists());

    let removed = script("uninstall.sh", &["--root", text]);
    assert!(removed.status.success(), "{removed:?}");
    let left: Vec<PathBuf> = files(&root);
    let is_config = |path: &PathBuf| path.starts_with(root.join("etc"));
    assert!(
        left.iter().all(is_config) && left.contains(&config),
        "{left:#?}"
    );
    let purged = script("uninstall.sh", &["--root", text, "--purge"]);
    assert!(purged.status.success(), "{purged:?}");
    assert_eq!(files(&root), Vec::<PathBuf>::new());
}

/// Host settings below a root: changed by hand, put back by whoever takes Weir away.
#[test]
fn an_uninstall_puts_host_settings_back_or_says_that_it_cannot() {
    let scratch = Scratch::new("revert");
    let root = install(&scratch);
    let text = root.to_str().expect("UTF-8");
    let knob = root.join("proc/sys/net/core/somaxconn");
    fs::create_dir_all(knob.parent().expect("has one")).expect("made");
    fs::write(&knob, "128\n").expect("written");
    let tune = || {
        let mut command = Command::new(repository("tuning/tune.sh"));
        command.args(["apply", "sysctl", "--yes", "--root", text]);
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(&knob).expect("text"), "16384\n");
    };
    tune();
    let stored = files(&root.join("var/lib/weir-tuning"));
    assert_eq!(stored.len(), 1, "{stored:?}");

    let dry = script("uninstall.sh", &["--root", text, "--dry-run"]);
    assert!(dry.status.success(), "{dry:?}");
    assert_eq!(fs::read_to_string(&knob).expect("text"), "16384\n");

    // What is stored cannot be understood: nothing is removed.
    let was = fs::read(&stored[0]).expect("readable");
    fs::write(
        &stored[0],
        "magic\n/proc/sys/net/core/somaxconn\n1\nunknown\n128\n",
    )
    .expect("own");
    let failed = script("uninstall.sh", &["--root", text]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    let why = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(why.contains("nothing is removed"), "{why}");
    assert!(root.join("usr/bin/weir").exists() && stored[0].exists());
    let left = script("uninstall.sh", &["--root", text, "--no-revert"]);
    assert!(left.status.success(), "{left:?}");
    assert!(!root.join("usr/bin/weir").exists() && stored[0].exists());

    fs::write(&stored[0], was).expect("own");
    let removed = script("uninstall.sh", &["--root", text]);
    assert!(removed.status.success(), "{removed:?}");
    let said = String::from_utf8_lossy(&removed.stdout).into_owned();
    assert!(
        said.contains("net.core.somaxconn") && said.contains("back to 128"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&knob).expect("text"), "128\n");
    assert!(!root.join("var/lib/weir-tuning").exists());
}

/// Also when `apply` has failed: ExecStop= would not run then.
#[test]
fn the_tuning_unit_takes_back_what_it_applied_whatever_came_of_it() {
    let apply = directive("weir-tuning.service", "ExecStart");
    let back = directive("weir-tuning.service", "ExecStopPost");
    assert_eq!(directive("weir-tuning.service", "ExecStop"), [""; 0]);
    let state = "--state /var/lib/weir-tuning";
    assert!(apply[0].contains(state) && back[0].contains(state));
    assert!(back[0].contains("tune.sh revert --yes"), "{back:?}");
}

/// The stage, the unit's drop-in and the slice's speak of the same slice and cores.
#[test]
fn the_example_for_isolate_fits_the_stage() {
    let service = "examples/isolate.conf";
    assert_eq!(directive(service, "Slice"), ["weir.slice"]);
    let stage = fs::read_to_string(repository("tuning/stages/70-isolate.sh")).expect("readable");
    assert!(
        stage.contains("group=/sys/fs/cgroup/weir.slice "),
        "{stage}"
    );
    let cores = directive("examples/weir-slice.conf", "AllowedCPUs");
    let wanted = format!("WEIR_CORES={}", cores[0]);
    assert_eq!(directive(service, "Environment"), [wanted]);
}

#[test]
fn scripts_teach_and_refuse_what_they_do_not_know() {
    for name in ["install.sh", "uninstall.sh", "deb.sh", "systemd-test.sh"] {
        let help = script(name, &["--help"]);
        assert!(help.status.success(), "{name}: {help:?}");
        let text = String::from_utf8(help.stdout).expect("text");
        assert!(
            text.contains("Usage:") && text.contains("Exit status:"),
            "{text}"
        );
        let bad = script(name, &["--no-such-flag"]);
        assert_eq!(bad.status.code(), Some(2), "{name}: {bad:?}");
        let text = String::from_utf8(bad.stderr).expect("text");
        assert!(text.contains("--no-such-flag"), "{text}");
    }
}

#[test]
fn the_package_passes_its_own_checks() {
    if !is_there("dpkg-deb") || !is_there("readelf") {
        return;
    }
    let scratch = Scratch::new("deb");
    let out = scratch.folder().to_str().expect("UTF-8");
    let weir = programs(&scratch);
    let built = script("deb.sh", &["--out", out, "--weir", &weir]);
    assert!(built.status.success(), "{built:?}");
    let package = files(scratch.folder())
        .into_iter()
        .find(|p| p.extension().is_some_and(|e| e == "deb"));
    let package = package.expect("a package");
    let fields = Command::new("dpkg-deb")
        .arg("-f")
        .arg(&package)
        .output()
        .expect("runs");
    let fields = String::from_utf8(fields.stdout).expect("text");
    let version = format!("Version: {}", env!("CARGO_PKG_VERSION"));
    assert!(fields.contains(&version), "{fields}");
    let installed = scratch.path("unpacked");
    let mut unpack = Command::new("dpkg-deb");
    let unpack = unpack.arg("-x").arg(&package).arg(&installed);
    assert!(unpack.status().expect("runs").success());
    bench_runs(&installed);

    // Without weir-bench there is no package.
    fs::remove_file(Path::new(&weir).with_file_name("weir-bench")).expect("own file");
    let refused = script("deb.sh", &["--out", out, "--weir", &weir]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("weir-bench: no such file; allowed:"), "{why}");
}

/// `weir bench` finds the weir-bench beside it, and no other.
fn bench_runs(root: &Path) {
    let mut weir = Command::new(root.join("usr/bin/weir"));
    let output = weir.args(["bench", "--version"]).env("PATH", "/nowhere");
    let output = output.output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("weir-bench "), "{output:?}");
}

/// A directory with both programs; the path of `weir`.
fn programs(scratch: &Scratch) -> String {
    let dir = scratch.path("programs");
    fs::create_dir_all(&dir).expect("made");
    let weir = dir.join("weir");
    fs::copy(process::weir(), &weir).expect("copied");
    let bench = dir.join("weir-bench");
    if let Err(error) = fs::copy(
        Path::new(process::weir()).with_file_name("weir-bench"),
        &bench,
    ) {
        println!("a script plays weir-bench, which is not built (cargo test --workspace builds it): {error}");
        fs::write(&bench, "#!/bin/sh\necho weir-bench 0.0.0\n").expect("written");
        fs::set_permissions(bench, fs::Permissions::from_mode(0o755)).expect("own file");
    }
    weir.to_str().expect("UTF-8").to_owned()
}
