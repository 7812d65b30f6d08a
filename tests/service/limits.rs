//! What is wrong with the surroundings is named: limits that are too small, variables that are empty or misspelt.

use std::process::Command;

use crate::manager::distributor;
use weir_testkit::process::{run_command, weir};
use weir_testkit::{Distributor, Scratch};

const LISTEN: &str = "--emitters 127.0.0.1:0 --analyzers 127.0.0.1:0 --http off --shards 2";

/// A start under a limit of the shell, which must fail; what it says.
fn refused(limit: &str) -> String {
    let mut shell = Command::new("sh");
    shell.args(["-ec", &format!("{limit}; exec \"$0\" \"$@\""), weir()]);
    shell
        .arg("distributor")
        .args(LISTEN.split(' '))
        .args(["--arena", "16MiB"]);
    let output = run_command(&mut shell);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{limit}: {said}");
    assert!(!said.contains("panicked"), "{limit}: {said}");
    said
}

#[test]
fn the_limit_that_is_too_small_is_the_one_that_is_named() {
    let said = refused("ulimit -n 20");
    assert!(
        said.contains("RLIMIT_NOFILE") && said.contains("20"),
        "{said}"
    );
    assert!(!said.contains("MEMLOCK"), "{said}");
    // Too little for the arenas, and so little more that later some small allocation would find nothing. The program by
    // itself, not optimised, takes 46,000.
    for limit in [55_000, 65_000, 80_000] {
        let said = refused(&format!("ulimit -v {limit}"));
        let value = format!("{} are allowed (RLIMIT_AS)", limit * 1024);
        assert!(
            said.contains("bytes of address space are needed") && said.contains(&value),
            "{said}"
        );
        assert!(!said.contains("MEMLOCK"), "{said}");
    }
    let said = refused("ulimit -d 8000");
    assert!(said.contains("RLIMIT_DATA"), "{said}");
    let said = refused("ulimit -l 64");
    assert!(
        said.contains("65536 bytes may be locked") && said.contains("RLIMIT_MEMLOCK"),
        "{said}"
    );
    assert!(!said.contains("MemLockLimit"), "{said}");
}

/// The kernel's table of descriptors does not grow while connections come: it would stop shards for a grace period of RCU.
#[test]
fn the_table_of_descriptors_is_as_large_as_it_may_become() {
    let distributor = Distributor::start("--shards 1");
    let about = |what: &str| {
        let path = format!("/proc/{}/{what}", distributor.pid());
        std::fs::read_to_string(path).expect("it runs")
    };
    let second = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|line| line.split_whitespace().next());
        value.and_then(|value| value.parse::<u64>().ok())
    };
    let limit = second(&about("limits"), "Max open files").unwrap_or(u64::MAX);
    let size = second(&about("status"), "FDSize:").expect("a size");
    assert!(size >= limit.min(1 << 18), "{size} of {limit}");
}

/// What `weir check` takes starts, and the other way round: here neither blames another process.
#[test]
fn two_listeners_on_one_port_are_named_by_the_check() {
    let scratch = Scratch::new("apart");
    let file = scratch.path("w.toml");
    let text = "[sockets]\nemitters = \"127.0.0.1:18080\"\nanalyzers = \"0.0.0.0:18080\"\n";
    std::fs::write(&file, text).expect("written");
    for line in ["check", "distributor --config"] {
        let output = run_command(Command::new(weir()).args(line.split(' ')).arg(&file));
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success(), "{line}");
        let (flags, port) = (["--emitters", "--analyzers"], "0.0.0.0:18080");
        assert!(
            flags.iter().all(|flag| said.contains(flag)) && said.contains(port),
            "{line}: {said}"
        );
        assert!(!said.contains("another process"), "{said}");
    }
}

#[test]
fn empty_variables_are_as_good_as_not_set() {
    let mut command = distributor(LISTEN);
    for name in [
        "WEIR_CONFIG",
        "WEIR_ARENA",
        "WEIR_ALLOW_HTTP",
        "WEIR_REPORT",
        "WEIR_LOG_LEVEL",
        "PORT",
        "WORKER_COUNT",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "LISTEN_FDS",
        "RUST_LOG",
    ] {
        command.env(name, "");
    }
    let distributor = Distributor::start_command(command);
    distributor.wait_log("RUST_LOG is empty: as if it were not set");
    assert!(
        distributor.lines("WARN").is_empty(),
        "{:?}",
        distributor.lines("")
    );
    distributor.stop().assert_clean();
}

#[test]
fn a_misspelt_filter_is_named_and_does_not_mute() {
    for slip in ["informative", "weir=chatty", "weir::shrad=debug"] {
        let mut command = distributor(LISTEN);
        command.env("RUST_LOG", slip);
        let distributor = Distributor::start_command(command);
        let said = distributor.wait_log("RUST_LOG: ");
        assert!(said.contains(slip) && said.contains("allowed"), "{said}");
        distributor.stop().assert_clean();
    }
}
