//! Limits of the operating system and trouble on the network, in small; `scripts/chaos.sh` is the whole.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use weir_testkit::process::{run_command, weir};
use weir_testkit::{
    assert_exactly_once, until, until_read, Analyzer, Dialect, Distributor, Emitter, Options,
};

/// Of so few descriptors 38 are the distributor's own, and 8 are kept for links of analyzers.
const DESCRIPTORS: u32 = 64;
const EMITTERS_MAX: u32 = 18;
/// A connection that is turned away is closed at once; one that is open for so long was taken in.
const TAKEN_IN_AFTER: Duration = Duration::from_millis(200);
/// Exit status of `scripts/chaos.sh` where namespaces are not permitted.
const NOT_PERMITTED: i32 = 4;

/// Whether that many further emitters are taken in.
fn takes_in(emitters: SocketAddr, count: u32) -> bool {
    let connect = |_| TcpStream::connect(emitters).expect("the backlog takes it");
    let streams: Vec<TcpStream> = (0..count).map(connect).collect();
    streams.into_iter().all(|mut stream| {
        stream
            .set_read_timeout(Some(TAKEN_IN_AFTER))
            .expect("an option");
        stream
            .read(&mut [0])
            .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    })
}

#[test]
fn a_crowd_takes_all_descriptors_and_costs_the_others_nothing() {
    const EARLY: u64 = 100_000;
    const ALL: u64 = 120_000;
    let distributor = Distributor::start_limited(DESCRIPTORS, "--shards 1");
    let options = Options::new(Dialect::Compact, 1.0);
    let first = Analyzer::connect(distributor.analyzers, &options);
    let pause = Duration::from_millis(5);
    let early = Emitter::paced(distributor.emitters, 0..EARLY, 100, pause);
    until_read(&[&first], 1);

    let connect = |_| TcpStream::connect(distributor.emitters).expect("the backlog takes it");
    let crowd: Vec<TcpStream> = (0..5 * EMITTERS_MAX).map(connect).collect();
    distributor.wait_log("emitter refused");
    assert!(!early.has_finished(), "the crowd came too late");
    // Analyzers have descriptors that emitters cannot take.
    let second = Analyzer::connect(distributor.analyzers, &options);
    until_read(&[&second], 1);
    drop(crowd);

    early.join();
    until("the places of the crowd", || {
        takes_in(distributor.emitters, EMITTERS_MAX)
    });
    until("the places of those who tried", || {
        takes_in(distributor.emitters, 1)
    });
    Emitter::start(distributor.emitters, EARLY..ALL, 100).join();
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, ALL);
    assert!(ended.count("connection_limit") > 0, "{}", ended.stdout);
    assert_exactly_once(&[&first, &second], 0..ALL);
}

/// The quick ones of `scripts/chaos.sh`, where this may be done at all.
#[test]
fn hosts_of_their_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut script = Command::new(root.join("scripts/chaos.sh"));
    script.args(["--jobs", "3", "--weir", weir()]);
    for name in ["kill9-all", "reset-emitter", "emitter-kill9", "http-kill9"] {
        script.args(["--scenario", name]);
    }
    let output = run_command(&mut script);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    if output.status.code() == Some(NOT_PERMITTED) {
        println!("not done: namespaces are not permitted here");
        return;
    }
    assert!(output.status.success(), "{said}");
}
