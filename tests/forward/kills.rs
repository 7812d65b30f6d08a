//! SIGKILL of Weir, and analyzers that vanish, between an entry and its ack: what was acked to the sender was at an
//! analyzer. Judged from the sender's own record; a sender that is killed is in `programs.rs`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use weir_testkit::inputs::{Client, Sender};
use weir_testkit::{until, Analyzer, Dialect, Distributor, Options};

/// Kills in `cargo test`; `WEIR_FORWARD_KILLS` says another number.
const KILLS: u32 = 4;

fn start(forward: SocketAddr) -> Distributor {
    Distributor::start(&format!(
        "--shards 1 --ack-presume 60s --input forward@{forward}?name=forward"
    ))
}

fn connect(distributor: &Distributor, id: &str) -> Analyzer {
    let options = Options::new(Dialect::Native, 1.0).id(id).marked();
    let options = options.per_second(3000);
    Analyzer::connect(distributor.analyzers, &options)
}

#[test]
fn what_is_acked_to_a_sender_was_at_an_analyzer_whoever_is_killed() {
    let kills = std::env::var("WEIR_FORWARD_KILLS");
    let kills = kills.map_or(KILLS, |text| text.parse().expect("a number of kills"));
    let mut distributor = start(([127, 0, 0, 1], 0).into());
    let forward = distributor.input("forward");
    let mut analyzers = ["a", "b"].map(|id| connect(&distributor, id));
    distributor.wait_lanes(2);
    let client = Client::fluentd().unit(50);
    let sender = Sender::start(forward, client, 0..u64::MAX);
    let mut delivered = BTreeSet::new();
    for kill in 0..kills {
        let before = sender.acked();
        until("chunks are acked", || sender.acked() > before + 500);
        match kill % 2 {
            0 => {
                distributor.signal("-KILL");
                distributor.wait();
                distributor = start(forward);
                for (analyzer, id) in analyzers.iter_mut().zip(["a", "b"]) {
                    let dead = std::mem::replace(analyzer, connect(&distributor, id));
                    delivered.extend(dead.ids());
                }
                distributor.wait_lanes(2);
            }
            _ => {
                // What it read and did not ACK goes to the other.
                let victim = &mut analyzers[kill as usize / 2 % 2];
                let id = format!("again-{kill}");
                let dead = std::mem::replace(victim, connect(&distributor, &id));
                // It ACKs what it has read before it goes: its record is taken after that.
                delivered.extend(dead.close().1);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let before = sender.acked();
    until("chunks are acked again", || sender.acked() > before + 500);
    let record = sender.finish();
    assert_eq!(record.fault, None);
    let reads = analyzers.iter().map(Analyzer::ids);
    delivered.extend(reads.flatten());
    let missing = record.acked.iter().filter(|id| !delivered.contains(id));
    assert_eq!(missing.count(), 0, "acked, and at no analyzer");
    assert!(
        record.reconnects >= u64::from(kills.div_ceil(2)),
        "{record:?}"
    );
    eprintln!(
        "{kills} kills: {} acked, {} at analyzers, {} connections more",
        record.acked.len(),
        delivered.len(),
        record.reconnects
    );
}
