//! Analyzers on real sockets, in all dialects.

use crate::fake::{listen, Analyzer, Running};
use std::time::{Duration, Instant};
use weir::client::analyzer::{self, Options, Report, RECORD_BYTES};
use weir::client::payload::stream_hash;
use weir::protocol::native;
use weir::sink::Control;
use weir::sink::Dialect;

const DIALECTS: [Dialect; 3] = [Dialect::Native, Dialect::Typed, Dialect::Compact];
/// Longer than any flush of a remainder.
const QUIET: Duration = Duration::from_millis(400);

fn start(options: &Options) -> Running<Report> {
    let options = options.clone();
    Running::start(move |stop| analyzer::run(&options, &stop).expect("analyzer"))
}

fn options(addr: &str, dialect: Dialect) -> Options {
    let mut options = Options::new(addr, "a1");
    options.dialect = dialect;
    options
}

#[test]
fn acks_every_tenth_message_and_the_remainder() {
    for dialect in DIALECTS {
        for write_bytes in [1, 7, usize::MAX] {
            let (listener, addr) = listen();
            let running = start(&options(&addr, dialect));
            let mut link = Analyzer::accept(&listener).welcomed(1, 0);
            assert_eq!((link.dialect, link.weight), (dialect, 0.25));
            link.write_bytes = write_bytes;
            link.send("e/0", 1..=25);
            let heard = link.hear_until_ack(25);
            assert!(heard.contains(&Control::Ack(20)), "{dialect}: {heard:?}");
            running.raise_stop();
            let drained = match dialect {
                Dialect::Native => Control::Drain,
                _ => Control::Weight(0.0),
            };
            assert_eq!(link.hear(), drained);
            link.send("e/0", 26..=27); // was under way
            link.hear_until_ack(27);
            if dialect == Dialect::Native {
                assert_eq!(link.hear(), Control::Goodbye { sequence: 27 });
            }
            drop(link);
            let report = running.join();
            assert_eq!(
                (report.counts.messages, report.counts.bytes),
                (27, 27 * 101)
            );
            assert_eq!(
                (report.counts.order_violations, report.counts.duplicates),
                (0, 0)
            );
        }
    }
}

#[test]
fn a_reference_like_analyzer_keeps_its_remainder_until_it_leaves() {
    for dialect in [Dialect::Typed, Dialect::Compact] {
        let (listener, addr) = listen();
        let mut options = options(&addr, dialect);
        options.ack_remainder = false;
        let running = start(&options);
        let mut link = Analyzer::accept(&listener);
        link.send("e/0", 1..=25);
        link.hear_until_ack(20);
        assert_eq!(link.hear_within(QUIET), None);
        running.raise_stop();
        assert_eq!(link.hear(), Control::Weight(0.0));
        link.hear_until_ack(25);
        drop(link);
        running.join();
    }
}

#[test]
fn a_native_analyzer_opens_a_link_to_each_shard() {
    let (listener, addr) = listen();
    let running = start(&options(&addr, Dialect::Native));
    let first = Analyzer::accept(&listener);
    assert_eq!((first.shard, first.id.as_str()), (None, "a1"));
    let mut links = vec![first.welcomed(3, 1)];
    for _ in 0..2 {
        let link = Analyzer::accept(&listener);
        let shard = link.shard.expect("a shard of its own");
        links.push(link.welcomed(3, shard));
    }
    let mut shards: Vec<_> = links.iter().map(|link| link.shard).collect();
    shards.sort_unstable();
    assert_eq!(shards, [None, Some(0), Some(2)], "the first was given 1");
    for (link, n) in links.iter_mut().zip(1..) {
        link.send(&format!("e/{n}"), 1..=n);
        link.hear_until_ack(n);
    }
    running.raise_stop();
    for (link, n) in links.iter_mut().zip(1..) {
        assert_eq!(link.hear(), Control::Drain);
        assert_eq!(link.hear(), Control::Goodbye { sequence: n });
    }
    drop(links);
    let report = running.join();
    assert_eq!((report.counts.messages, report.links), (6, 3));
}

#[test]
fn a_refused_or_lost_link_is_tried_again() {
    let (listener, addr) = listen();
    let running = start(&options(&addr, Dialect::Native));
    let mut refused = Analyzer::accept(&listener);
    let mut bytes = Vec::new();
    let welcome = native::Welcome {
        refused: Some("starting"),
        shard_count: 1,
        shard_index: 0,
        instance: 1,
        link_epoch: 0,
    };
    welcome.encode(&mut bytes);
    refused.write(&bytes);
    drop(refused);
    let mut link = Analyzer::accept(&listener).welcomed(1, 0);
    link.send("e/0", 1..=3);
    link.hear_until_ack(3);
    drop(link);
    let mut link = Analyzer::accept(&listener);
    assert_eq!(link.shard, Some(0), "asks for the shard it had");
    link = link.welcomed(1, 0);
    link.send("e/0", 4..=6);
    link.hear_until_ack(3); // numbers start anew
    link.write(&native::GOODBYE);
    drop(link);
    let mut link = Analyzer::accept(&listener).welcomed(1, 0);
    running.raise_stop();
    assert_eq!(link.hear(), Control::Drain);
    drop(link);
    let report = running.join();
    assert_eq!(
        (report.counts.messages, report.reconnects),
        (6, 2),
        "{report}"
    );
    assert_eq!(report.counts.order_violations, 0);
}

#[test]
fn without_reconnect_the_end_of_the_link_is_the_end() {
    for dialect in DIALECTS {
        let (listener, addr) = listen();
        let mut options = options(&addr, dialect);
        options.reconnect = false;
        let running = start(&options);
        let mut link = Analyzer::accept(&listener).welcomed(1, 0);
        link.send("e/0", 1..=10);
        link.hear_until_ack(10);
        drop(link);
        assert_eq!(running.join().counts.messages, 10);
        drop(listener);
        let error = analyzer::run(&options, &Default::default()).expect_err("nobody there");
        assert!(error.to_string().contains(&addr), "{error}");
    }
}

#[test]
fn order_duplicates_and_redelivery_are_counted() {
    let (listener, addr) = listen();
    let running = start(&options(&addr, Dialect::Native));
    let mut link = Analyzer::accept(&listener).welcomed(1, 0);
    link.send("e/0", [1, 2, 5, 9, 7, 9]); // 7 goes back, 9 is a duplicate
    link.redeliver("e/0", [3, 9]); // going back is expected, a duplicate is still one
    link.send("e/1", [4]);
    link.hear_until_ack(9);
    running.raise_stop();
    link.hear();
    drop(link);
    let counts = running.join().counts;
    assert_eq!((counts.messages, counts.order_violations), (9, 1));
    assert_eq!((counts.duplicates, counts.redelivered), (2, 2));
}

#[test]
fn the_distributors_drain_is_answered_at_once() {
    let (listener, addr) = listen();
    let mut options = options(&addr, Dialect::Native);
    options.ack_every = 1000;
    options.delay = Duration::from_millis(5);
    let running = start(&options);
    let mut link = Analyzer::accept(&listener).welcomed(1, 0);
    link.send("e/0", 1..=3);
    link.write(&native::DRAIN);
    link.send("e/0", 4..=100);
    assert_eq!(
        link.hear(),
        Control::Ack(3),
        "before the messages behind it"
    );
    link.hear_until_ack(100);
    running.raise_stop();
    drop(link);
    running.join();
}

#[test]
fn records_are_written_before_their_ack() {
    for dialect in DIALECTS {
        let (listener, addr) = listen();
        let path =
            std::env::temp_dir().join(format!("weir-record-{}-{dialect}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut options = options(&addr, dialect);
        options.record = Some(path.clone());
        let running = start(&options);
        let mut link = Analyzer::accept(&listener).welcomed(1, 0);
        let mut acked = 0;
        for round in 0..50 {
            link.send("e/0", round * 20 + 1..=round * 20 + 20);
            while acked < link.sent {
                let Control::Ack(sequence) = link.hear() else {
                    panic!("ACK expected")
                };
                let recorded = std::fs::read(&path).expect("record file");
                assert!(recorded.len() as u64 >= sequence * RECORD_BYTES as u64);
                acked = sequence;
            }
        }
        running.raise_stop();
        drop(link);
        running.join();
        let recorded = std::fs::read(&path).expect("record file");
        let hash = stream_hash(b"e/0").to_be_bytes();
        let expected: Vec<u8> = (1..=1000u64)
            .flat_map(|n| [hash, n.to_be_bytes()].concat())
            .collect();
        assert!(recorded == expected, "{dialect}");
        std::fs::remove_file(&path).expect("remove");
    }
}

#[test]
fn count_stops_exactly_and_leaves_the_rest() {
    for dialect in DIALECTS {
        let (listener, addr) = listen();
        let mut options = options(&addr, dialect);
        options.count = Some(13);
        let running = start(&options);
        let mut link = Analyzer::accept(&listener).welcomed(1, 0);
        link.send("e/0", 1..=40);
        link.hear_until_ack(13);
        if dialect == Dialect::Native {
            assert_eq!(link.hear(), Control::Goodbye { sequence: 13 });
        }
        assert_eq!(link.hear_within(QUIET), None);
        drop(link);
        assert_eq!(running.join().counts.messages, 13);
    }
}

#[test]
fn weight_varies_every_five_thousand_messages() {
    for dialect in DIALECTS {
        let (listener, addr) = listen();
        let mut options = options(&addr, dialect);
        (options.vary_weight, options.weight, options.ack_every) = (true, 0.5, 1000);
        let running = start(&options);
        let mut link = Analyzer::accept(&listener).welcomed(1, 0);
        let mut weights = Vec::new();
        for round in 0..4u64 {
            link.send("e/0", round * 2500 + 1..=round * 2500 + 2500);
            let heard = link.hear_until_ack(round * 2500 + 2500);
            weights.extend(
                heard
                    .into_iter()
                    .filter(|c| matches!(c, Control::Weight(_))),
            );
        }
        running.raise_stop();
        if let control @ Control::Weight(1e-9..) = link.hear() {
            weights.push(control); // sent after the last ACK
        }
        assert_eq!(weights.len(), 2, "{dialect}: {weights:?}");
        assert!(
            weights
                .iter()
                .all(|w| matches!(w, Control::Weight(0.4..=0.6))),
            "{weights:?}"
        );
        drop(link);
        let report = running.join();
        let weight = report.weight.expect("a link has one");
        assert!((0.4..=0.6).contains(&weight) && weight != 0.5);
    }
}

#[test]
fn a_slow_analyzer_acks_while_it_works() {
    let (listener, addr) = listen();
    let mut options = options(&addr, Dialect::Native);
    (options.delay, options.ack_every) = (Duration::from_millis(5), 1000);
    let running = start(&options);
    let mut link = Analyzer::accept(&listener).welcomed(1, 0);
    link.send("e/0", 1..=200);
    let started = Instant::now();
    let mut acks = 0;
    while !matches!(link.hear(), Control::Ack(200)) {
        acks += 1;
    }
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    assert!(acks >= 4, "only {acks} ACKs in a second");
    running.raise_stop();
    drop(link);
    running.join();
}
