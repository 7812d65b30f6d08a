//! Twice what analyzers can take, from senders with the deadlines of real clients: they wait, and do not time out.
//!
//! Judged by the senders' own records: what was acked to them is at an analyzer. `WEIR_OVERLOAD_SECONDS=60` is the long
//! form.

use std::time::{Duration, Instant};

use weir_testkit::inputs::{Client, Record, Sender};
use weir_testkit::{until, Analyzer, Dialect, Distributor, Options};

/// Messages a second that the analyzers take together.
const CAPACITY: u32 = 8_000;
const ANALYZERS: u32 = 2;
/// Of all units, so many may be waited for in vain.
const TIMED_OUT_MOST: f64 = 0.01;
/// What a longer overload may add to the memory after its first seconds.
const MEMORY_MORE: u64 = 32 << 20;

/// Who sends, at which input, and with how many messages a second. npm's client waits for half a second, which is less
/// than what others have in flight takes: it is answered when its messages are taken in (docs/FORWARD.md).
fn clients() -> [(&'static str, Client, u32); 4] {
    let each = CAPACITY * 2 / 4;
    [
        ("forward", Client::fluentd(), each),
        ("npm", Client::npm_forward(), each),
        ("lumberjack", Client::beats(), each),
        ("relp", Client::librelp(), each),
    ]
}

const SENDERS_OF_EACH: u32 = 2;

#[test]
fn senders_wait_and_do_not_time_out() {
    let seconds = std::env::var("WEIR_OVERLOAD_SECONDS");
    let seconds = seconds.map_or(8, |text| text.parse().expect("a number of seconds"));
    let distributor = Distributor::start(
        "--shards 1 --ack-presume 60s --input forward@127.0.0.1:0?name=forward --input forward@127.0.0.1:0?name=npm&ack=received --input lumberjack@127.0.0.1:0?name=lumberjack \
         --input relp@127.0.0.1:0?name=relp",
    );
    let analyzers: Vec<Analyzer> = (0..ANALYZERS)
        .map(|n| {
            let options = Options::new(Dialect::Native, 1.0).id(&format!("a{n}"));
            let options = options.marked().per_second(CAPACITY / ANALYZERS);
            Analyzer::connect(distributor.analyzers, &options)
        })
        .collect();
    distributor.wait_lanes(analyzers.len());
    let mut senders = Vec::new();
    for (input, client, per_second) in clients() {
        let address = distributor.input(input);
        for _ in 0..SENDERS_OF_EACH {
            let each = per_second / SENDERS_OF_EACH;
            let every = Duration::from_secs(client.unit as u64) / each;
            let first = (senders.len() as u64) << 32;
            let ids = first..first + (1 << 32);
            senders.push((client, Sender::start(address, client.every(every), ids)));
        }
    }
    // Everything that fills up has filled up by then.
    std::thread::sleep(Duration::from_secs(seconds) / 4);
    let (began, memory_before) = (Instant::now(), distributor.rss());
    let read_before: usize = analyzers.iter().map(Analyzer::read_numbered).sum();
    std::thread::sleep(Duration::from_secs(seconds) * 3 / 4);
    let more = distributor.rss().saturating_sub(memory_before);
    let read: usize = analyzers.iter().map(Analyzer::read_numbered).sum();
    let rate = (read - read_before) as f64 / began.elapsed().as_secs_f64();

    let records: Vec<(Client, Record)> = senders
        .into_iter()
        .map(|(client, sender)| (client, sender.finish()))
        .collect();
    let mut late = Vec::new();
    for (client, record) in &records {
        let mut waits = record.ack_ms.clone();
        waits.sort_unstable();
        let at = |part: usize| waits.get(waits.len() * part / 100).copied().unwrap_or(0);
        eprintln!(
            "{:?} units of {}: {} units, {} timed out, ack after {} ms (median), {} ms (99 %), {} messages acked",
            client.speaks, client.unit, record.units, record.timed_out, at(50), at(99), record.acked.len()
        );
        assert_eq!(record.fault, None);
        if record.timed_out as f64 > record.units as f64 * TIMED_OUT_MOST {
            late.push((client.speaks, client.unit, record.timed_out, record.units));
        }
    }
    eprintln!(
        "{rate:.0} messages a second of {CAPACITY}; memory + {} MiB",
        more >> 20
    );
    assert!(
        rate > f64::from(CAPACITY) * 0.5,
        "the analyzers were not kept busy"
    );
    assert!(more <= MEMORY_MORE, "{} MiB more", more >> 20);
    assert!(
        late.is_empty(),
        "protocol, messages of a unit, timed out, units: {late:?}"
    );
    assert_nothing_acked_is_lost(&records, &analyzers);
    let ended = distributor.stop();
    ended.balance();
}

fn assert_nothing_acked_is_lost(records: &[(Client, Record)], analyzers: &[Analyzer]) {
    let missing = || {
        let mut ids: Vec<u64> = analyzers.iter().flat_map(Analyzer::ids).collect();
        ids.sort_unstable();
        let acked = records.iter().flat_map(|(_, record)| &record.acked);
        acked.filter(|id| ids.binary_search(id).is_err()).count()
    };
    until("all that was acked is at an analyzer", || missing() == 0);
}
