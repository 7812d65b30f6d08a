//! Limits of the operating system and trouble on the network, in small; `scripts/chaos.sh` is the whole.

mod common;

use std::net::TcpStream;
use std::process::{Command, Stdio};

use common::process::WEIR;
use common::{assert_exactly_once, until, until_read};
use common::{Analyzer, Dialect, Distributor, Emitter, Options};

/// What the distributor keeps for itself, see README.
const DESCRIPTORS_KEPT: u32 = 512;
const EMITTERS_MAX: u32 = 20;
/// Of `scripts/chaos.sh`: namespaces are not permitted here.
const NOT_PERMITTED: i32 = 4;

#[test]
fn a_crowd_takes_all_descriptors_and_costs_others_nothing() {
    const CROWD: usize = 100;
    const EARLY: u64 = 20_000;
    const LATE: u64 = 5_000;
    let distributor = Distributor::start_limited(DESCRIPTORS_KEPT + EMITTERS_MAX, "--shards 1");
    let options = Options::new(Dialect::Compact, 1.0);
    let first = Analyzer::connect(distributor.analyzers, &options);
    let early = Emitter::paced(
        distributor.emitters,
        0..EARLY,
        100,
        std::time::Duration::from_millis(2),
    );
    until_read(&[&first], 1);
    let connect = |_| TcpStream::connect(distributor.emitters).expect("the backlog takes it");
    let crowd: Vec<TcpStream> = (0..CROWD).map(connect).collect();
    distributor.wait_log("emitter refused");
    // Analyzers have descriptors of their own.
    let second = Analyzer::connect(distributor.analyzers, &options);
    drop(crowd);
    early.join();
    // The places of the crowd are free again: more than were left beside it.
    until("a free place", || {
        let ids = EARLY..EARLY + 1;
        Emitter::start(distributor.emitters, ids, 100).end().is_ok()
            && first.read() + second.read() > EARLY as usize
    });
    let late: Vec<Emitter> = (1..=EMITTERS_MAX as u64 - 2)
        .map(|n| {
            let from = EARLY + n * LATE;
            Emitter::start(distributor.emitters, from..from + LATE, 100)
        })
        .collect();
    for emitter in late {
        emitter.join();
    }
}
