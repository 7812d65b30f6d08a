//! Every message reaches exactly one analyzer, in exact proportion, whatever the dialect, the number
//! of shards and the kernel; nobody's slowness costs a message or unbounded memory.

use std::time::{Duration, Instant};

use weir_testkit::process::number;
use weir_testkit::wire::DIALECTS;
use weir_testkit::{
    assert_exactly_once, assert_none_missing, stays, until, until_read, Acks, Analyzer, Dialect,
    Distributor, Emitter, Options,
};

const MIB: u64 = 1 << 20;
const PAYLOAD: usize = 64;

/// An analyzer, with a link to each shard if it is a native one.
fn analyzer(distributor: &Distributor, dialect: Dialect, id: &str, weight: f64) -> Vec<Analyzer> {
    match dialect {
        Dialect::Native => native_links(distributor, id, weight),
        _ => vec![Analyzer::connect(
            distributor.analyzers,
            &Options::new(dialect, weight),
        )],
    }
}

/// Analyzers of a distributor with one shard.
fn weights<const N: usize>(
    distributor: &Distributor,
    dialect: Dialect,
    weights: [f64; N],
) -> [Analyzer; N] {
    let mut ids = 0;
    let analyzers = weights.map(|weight| {
        ids += 1;
        let options = Options::new(dialect, weight).id(&format!("a{ids}"));
        Analyzer::connect(distributor.analyzers, &options)
    });
    distributor.wait_lanes(N);
    analyzers
}

/// A native analyzer's links, one per shard.
fn native_links(distributor: &Distributor, id: &str, weight: f64) -> Vec<Analyzer> {
    let options = Options::new(Dialect::Native, weight).id(id);
    (0..distributor.shards)
        .map(|shard| Analyzer::connect(distributor.analyzers, &options.clone().shard(shard)))
        .collect()
}

/// From `connections` emitters, so that the kernel spreads them over the shards.
fn emit(distributor: &Distributor, messages: u64, connections: u64) {
    let each = messages / connections;
    let emitters: Vec<_> = (0..connections)
        .map(|n| Emitter::start(distributor.emitters, n * each..(n + 1) * each, PAYLOAD))
        .collect();
    for emitter in emitters {
        emitter.join();
    }
}

#[test]
fn shares_are_exact_on_one_shard() {
    const MESSAGES: u64 = 100_003;
    for dialect in DIALECTS {
        // Room for all of it, so that no share spills when an analyzer lags.
        let distributor = Distributor::start("--shards 1 --arena 64MiB");
        let shares = [0.5, 0.3, 0.2];
        let analyzers = weights(&distributor, dialect, shares);
        emit(&distributor, MESSAGES, 1);
        let analyzers: Vec<&Analyzer> = analyzers.iter().collect();
        until_read(&analyzers, MESSAGES as usize);
        assert_exactly_once(&analyzers, 0..MESSAGES);
        for (analyzer, share) in analyzers.iter().zip(shares) {
            let off = analyzer.read() as f64 - share * MESSAGES as f64;
            assert!(off.abs() <= 2.0, "{dialect:?}: {share} is off by {off}");
            analyzer.assert_in_order();
        }
        let ended = distributor.stop();
        assert_eq!(ended.assert_clean().received, MESSAGES);
        assert_eq!(ended.rerouted(), 0);
    }
}

#[test]
fn four_shards_and_analyzers_with_a_single_link() {
    const MESSAGES: u64 = 48_000;
    for dialect in [Dialect::Compact, Dialect::Typed] {
        let distributor = Distributor::start("--shards 4");
        let analyzers = weights(&distributor, dialect, [0.5, 0.25, 0.25]);
        emit(&distributor, MESSAGES, 16);
        let analyzers: Vec<&Analyzer> = analyzers.iter().collect();
        until_read(&analyzers, MESSAGES as usize);
        assert_exactly_once(&analyzers, 0..MESSAGES);
        // Each shard is exact to two messages.
        let off = analyzers[0].read() as f64 - 0.5 * MESSAGES as f64;
        assert!(off.abs() <= 8.0, "{dialect:?}: off by {off}");
        let ended = distributor.stop();
        assert_eq!(ended.assert_clean().received, MESSAGES);
        assert_eq!(ended.rerouted(), 0);
    }
}

#[test]
fn four_shards_and_native_analyzers_with_a_link_to_each() {
    const MESSAGES: u64 = 48_000;
    let distributor = Distributor::start("--shards 4");
    let analyzers = [("a", 0.75), ("b", 0.25)].map(|(id, weight)| {
        let links = native_links(&distributor, id, weight);
        // Whichever shard accepted it, each link went to the shard that it asked for.
        let shards: Vec<_> = links.iter().map(|link| link.shard).collect();
        assert_eq!(shards, [0, 1, 2, 3]);
        links
    });
    distributor.wait_lanes(2);
    emit(&distributor, MESSAGES, 16);
    let links: Vec<&Analyzer> = analyzers.iter().flatten().collect();
    until_read(&links, MESSAGES as usize);
    assert_exactly_once(&links, 0..MESSAGES);
    let read: usize = analyzers[0].iter().map(Analyzer::read).sum();
    let off = read as f64 - 0.75 * MESSAGES as f64;
    assert!(off.abs() <= 8.0, "off by {off}");
    let used = analyzers[0].iter().filter(|link| link.read() > 0).count();
    assert!(used >= 2, "16 emitters on one shard?");
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, MESSAGES);
    until("goodbyes", || links.iter().all(|link| link.goodbye_heard()));
}

/// Batches of other shards wait for each other on a single link: they must not also wait for the
/// latency budget, each of them.
#[test]
fn a_single_link_keeps_up_with_sparse_traffic_of_four_shards() {
    const MESSAGES: u64 = 2_400;
    let distributor = Distributor::start("--shards 4 --latency-budget 50ms");
    let options = Options::new(Dialect::Compact, 1.0);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    let pause = Duration::from_millis(10);
    let emitters: Vec<_> = (0..16u64)
        .map(|n| {
            let ids = n * (MESSAGES / 16)..(n + 1) * (MESSAGES / 16);
            Emitter::trickle(distributor.emitters, ids, PAYLOAD, pause)
        })
        .collect();
    for emitter in emitters {
        emitter.join();
    }
    let ended = Instant::now();
    until_read(&[&analyzer], MESSAGES as usize);
    let lag = ended.elapsed();
    // A quarter of the traffic's speed, as it was once, would lag by 4 s.
    assert!(lag < Duration::from_millis(1500), "behind by {lag:?}");
    assert_exactly_once(&[&analyzer], 0..MESSAGES);
    assert_eq!(distributor.stop().assert_clean().received, MESSAGES);
}

#[test]
fn every_kernel_will_do() {
    const MESSAGES: u64 = 20_000;
    let all = "incremental,min-wait,defer-taskrun,send-zc";
    for without in all.split(',').chain([all]) {
        // Zero-copy from the first byte, where there is zero-copy.
        let flags = format!("--shards 2 --zero-copy 1 --zero-copy-loopback --without {without}");
        let distributor = Distributor::start(&flags);
        let ready = distributor.wait_log(" ready ");
        for feature in without.split(',') {
            let off = match feature {
                "incremental" => "incremental-buffers=no".to_string(),
                feature => format!("{feature}=no"),
            };
            assert!(ready.contains(&off), "{off}: {ready}");
        }
        let single = Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Compact, 1.0));
        let links = native_links(&distributor, "n", 1.0);
        distributor.wait_lanes(2);
        emit(&distributor, MESSAGES, 8);
        let analyzers: Vec<&Analyzer> = links.iter().chain([&single]).collect();
        until_read(&analyzers, MESSAGES as usize);
        assert_exactly_once(&analyzers, 0..MESSAGES);
        let ended = distributor.stop();
        assert_eq!(ended.assert_clean().received, MESSAGES, "{without}");
        let zero_copy = !ended.stdout.contains("(0 zero-copy");
        assert_eq!(zero_copy, !without.contains("send-zc"), "{}", ended.stdout);
    }
}

#[test]
fn large_and_small_messages_share_links() {
    // Larger than a batch buffer, up to the largest frame.
    let sizes = [8, 300_000, 100, (1 << 20) - 5, 9, 262_144, 70_000, 8];
    for dialect in DIALECTS {
        let distributor = Distributor::start("--shards 2");
        let links = analyzer(&distributor, dialect, "a", 1.0);
        distributor.wait_lanes(1);
        let mut bytes = Vec::new();
        for (id, size) in (0..).zip(sizes.iter().cycle().take(40)) {
            weir_testkit::numbered::put_numbered(&mut bytes, id, *size);
        }
        let mut emitter = weir_testkit::socket::connect(distributor.emitters);
        std::io::Write::write_all(&mut emitter, &bytes).expect("writes");
        drop(emitter);
        let links: Vec<&Analyzer> = links.iter().collect();
        until_read(&links, 40);
        assert_exactly_once(&links, 0..40);
        assert_eq!(distributor.stop().assert_clean().received, 40);
    }
}

// Analyzers that ACK in their own way --------------------------------------------------------------

#[test]
fn a_reference_client_that_never_acks_a_remainder_keeps_its_link() {
    for dialect in [Dialect::Compact, Dialect::Typed] {
        let distributor = Distributor::start("--shards 1 --ack-timeout 1s --drain-timeout 0s");
        let options = Options::new(dialect, 1.0).acks(Acks::Every(10));
        let analyzer = Analyzer::connect(distributor.analyzers, &options);
        let other = Options::new(dialect, 1.0).acks(Acks::Every(10));
        let other = Analyzer::connect(distributor.analyzers, &other);
        distributor.wait_lanes(2);
        emit(&distributor, 70, 1);
        until_read(&[&analyzer, &other], 70);
        until("the ACKs", || analyzer.acked() + other.acked() == 60);
        // More than twice the timeout, and two of the checks that are made every second.
        stays("both links up", Duration::from_millis(2500), || {
            !analyzer.has_ended() && !other.has_ended()
        });
        Emitter::start(distributor.emitters, 70..100, PAYLOAD).join();
        until_read(&[&analyzer, &other], 100);
        assert_exactly_once(&[&analyzer, &other], 0..100);
        assert_eq!((analyzer.read(), other.read()), (50, 50));
        until("the ACKs", || analyzer.acked() + other.acked() == 100);
        let ended = distributor.stop();
        assert_eq!((ended.rerouted(), ended.count("ack_stalled")), (0, 0));
    }
}

#[test]
fn an_analyzer_that_stops_acking_under_traffic_is_given_up() {
    for dialect in DIALECTS {
        let distributor = Distributor::start("--shards 2 --ack-timeout 1s");
        let silent = Options::new(dialect, 1.0).id("silent").shard(0);
        let silent = Analyzer::connect(distributor.analyzers, &silent.acks(Acks::Every(10)));
        let living = [0, 1].map(|shard| {
            let options = Options::new(dialect, 1.0).id("living").shard(shard);
            Analyzer::connect(distributor.analyzers, &options)
        });
        until("three links", || {
            distributor.lines("analyzer up").len() == 3
        });
        // So many that some of them are on the silent one's shard: of four, all may be on the other.
        let pause = Duration::from_millis(20);
        let emitters: Vec<_> = (0..16u64)
            .map(|n| {
                let ids = n << 32..(n + 1) << 32;
                Emitter::paced(distributor.emitters, ids, 1000, pause)
            })
            .collect();
        until("some ACKs", || silent.acked() >= 20);
        silent.set_acks(Acks::Never);
        until("the end of its link", || silent.has_ended());
        let mut wanted = Vec::new();
        for (n, emitter) in (0u64..).zip(emitters) {
            wanted.extend(n << 32..emitter.end().expect("the distributor reads"));
        }
        let total = wanted.len();
        until("everything", || {
            let mut ids = silent.acked_ids();
            ids.extend(living.iter().flat_map(Analyzer::ids));
            ids.sort_unstable();
            ids.dedup();
            ids.len() == total
        });
        let ended = distributor.stop();
        assert_eq!(ended.assert_clean().received, total as u64);
        assert_eq!(ended.count("ack_stalled"), 1, "{}", ended.stdout);
        assert!(ended.rerouted() > 0);
        assert!(ended.stderr.contains("no ACK for 1s"), "{}", ended.stderr);
    }
}

// Weights ------------------------------------------------------------------------------------------

#[test]
fn a_weight_that_changes_shifts_the_shares() {
    for dialect in DIALECTS {
        let distributor = Distributor::start("--shards 1");
        let [a, b] = weights(&distributor, dialect, [1.0, 1.0]);
        emit(&distributor, 10_000, 1);
        until_read(&[&a, &b], 10_000);
        assert!(a.read().abs_diff(5_000) <= 2, "{}", a.read());

        let before = distributor.rosters()[0].0;
        a.set_weight(3.0);
        distributor.wait_newer_rosters(before);
        Emitter::start(distributor.emitters, 10_000..20_000, PAYLOAD).join();
        until_read(&[&a, &b], 20_000);
        assert!(a.read().abs_diff(12_500) <= 4, "{}", a.read());
        assert_exactly_once(&[&a, &b], 0..20_000);
        assert_eq!(distributor.stop().assert_clean().received, 20_000);
    }
}

#[test]
fn weight_zero_drains_an_analyzer() {
    for dialect in DIALECTS {
        let distributor = Distributor::start("--shards 4");
        let links = ["a", "b"].map(|id| analyzer(&distributor, dialect, id, 1.0));
        distributor.wait_lanes(2);
        let all: Vec<&Analyzer> = links.iter().flatten().collect();
        emit(&distributor, 8_000, 8);
        until_read(&all, 8_000);

        let before = distributor.rosters()[0].0;
        links[0][0].set_weight(0.0);
        distributor.wait_newer_rosters(before);
        let read: usize = links[0].iter().map(Analyzer::read).sum();
        for n in 0..8 {
            let ids = 8_000 + n * 1_000..9_000 + n * 1_000;
            Emitter::start(distributor.emitters, ids, PAYLOAD).join();
        }
        until_read(&all, 16_000);
        assert_exactly_once(&all, 0..16_000);
        let after: usize = links[0].iter().map(Analyzer::read).sum();
        assert_eq!(after, read, "{dialect:?}: nothing new for weight 0");

        let before = distributor.rosters()[0].0;
        links[0][0].set_weight(1.0);
        distributor.wait_newer_rosters(before);
        Emitter::start(distributor.emitters, 16_000..18_000, PAYLOAD).join();
        until_read(&all, 18_000);
        let again: usize = links[0].iter().map(Analyzer::read).sum();
        assert!(again.abs_diff(after + 1_000) <= 4, "{dialect:?}: {again}");
        assert_eq!(distributor.stop().assert_clean().received, 18_000);
    }
}

/// Measured by the distributor's own log: from the control word's decoding to the last shard's new
/// tree. The median, since this machine may be busy with other tests.
#[test]
fn a_weight_reaches_all_shards_within_5_ms() {
    let distributor = Distributor::start("--shards 4");
    let analyzer = Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Compact, 1.0));
    distributor.wait_lanes(1);
    let mut took_us: Vec<u64> = Vec::new();
    for change in 1..=21u32 {
        let before = distributor.rosters()[0].0;
        analyzer.set_weight(1.0 + f64::from(change));
        distributor.wait_newer_rosters(before);
        let said = distributor.lines(" weight link=").pop().expect("logged");
        let applied = distributor.rosters().iter().map(|(_, ns)| *ns).max();
        let ns = applied.expect("four shards") - number(&said, "mono_ns");
        took_us.push(ns / 1000);
    }
    took_us.sort_unstable();
    let (median, worst) = (took_us[10], took_us[20]);
    println!("a new weight on all 4 shards: median {median} us, worst {worst} us");
    assert!(median <= 5_000, "{took_us:?}");
    distributor.stop().assert_clean();
}

// Backpressure -------------------------------------------------------------------------------------

/// Arena, receive memory and partial frames are at their smallest.
const SMALL: &str = "--arena 10MiB --ingress 1MiB --partial-bytes 1MiB --window 4MiB";
/// Resident memory beside what is taken at start: program, stacks, rings.
const BESIDE: u64 = 16 * MIB;
/// What a loopback connection's two sockets may hold, generously: 13.2 MiB were seen on a machine with other work.
const SOCKETS: u64 = 16 * MIB;

/// Waits until the emitter writes no more.
fn until_blocked(emitter: &Emitter) -> u64 {
    let mut last = (emitter.written_bytes(), Instant::now());
    until("the emitter to be held back", || {
        let written = emitter.written_bytes();
        if written != last.0 {
            last = (written, Instant::now());
        }
        last.1.elapsed() > Duration::from_millis(300)
    });
    last.0
}

#[test]
fn without_an_analyzer_emitters_are_held_back_and_nothing_is_lost() {
    const BYTES: u64 = 48 * MIB;
    const MESSAGES: u64 = BYTES / 1024;
    let distributor = Distributor::start(&format!("--shards 1 {SMALL}"));
    let bound = distributor.memory_bytes() + BESIDE;
    let emitter = Emitter::start(distributor.emitters, 0..MESSAGES, 1024 - 5);
    let written = until_blocked(&emitter);
    assert!(!emitter.has_finished());
    assert!(written <= MIB + SOCKETS, "{written} bytes went somewhere");
    let rss = distributor.rss();
    assert!(rss <= bound, "{rss} bytes resident, {bound} allowed");

    let options = Options::new(Dialect::Typed, 1.0);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    emitter.join();
    until_read(&[&analyzer], MESSAGES as usize);
    assert_exactly_once(&[&analyzer], 0..MESSAGES);
    analyzer.assert_in_order();
    assert_eq!(distributor.stop().assert_clean().received, MESSAGES);
}

#[test]
fn what_emitters_sent_before_they_left_waits_for_an_analyzer() {
    const MESSAGES: u64 = 400;
    let distributor = Distributor::start("--shards 1");
    emit(&distributor, MESSAGES, 4);
    // Time to see the ends of their connections; with less the test proves less.
    std::thread::sleep(Duration::from_millis(300));
    let options = Options::new(Dialect::Typed, 1.0);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    until_read(&[&analyzer], MESSAGES as usize);
    assert_exactly_once(&[&analyzer], 0..MESSAGES);
    assert_eq!(distributor.stop().assert_clean().received, MESSAGES);
}

#[test]
fn a_slow_analyzer_slows_emitters_down_within_bounded_memory() {
    const BYTES: u64 = 64 * MIB;
    const MESSAGES: u64 = BYTES / 1024;
    for dialect in [Dialect::Compact, Dialect::Native] {
        let distributor = Distributor::start(&format!("--shards 1 {SMALL}"));
        let options = Options::new(dialect, 1.0);
        let analyzer = Analyzer::connect(distributor.analyzers, &options);
        distributor.wait_lanes(1);
        let bound = distributor.memory_bytes() + BESIDE;
        let emitter = Emitter::start(distributor.emitters, 0..MESSAGES, 1024 - 5);
        let mut worst = 0;
        for _ in 0..4 {
            analyzer.set_reading(false);
            let written = until_blocked(&emitter);
            let read = analyzer.read() as u64 * 1024;
            let between = written - read;
            assert!(between <= 11 * MIB + 2 * SOCKETS, "{between} bytes between");
            assert!(!emitter.has_finished(), "held back");
            worst = worst.max(distributor.rss());
            // A little is read before the next rest.
            let goal = analyzer.read() + 4 * 1024;
            analyzer.set_reading(true);
            until("a little", || analyzer.read() >= goal);
        }
        assert!(worst <= bound, "{worst} bytes resident, {bound} allowed");
        emitter.join();
        until_read(&[&analyzer], MESSAGES as usize);
        assert_exactly_once(&[&analyzer], 0..MESSAGES);
        let ended = distributor.stop();
        assert_eq!(ended.assert_clean().received, MESSAGES);
        assert_eq!(ended.count("ack_stalled"), 0);
    }
}

#[test]
fn a_stuck_analyzer_costs_its_own_share_only() {
    const MESSAGES: u64 = 40_000;
    for dialect in [Dialect::Compact, Dialect::Native] {
        let distributor = Distributor::start("--shards 1 --window 1MiB");
        let options = Options::new(dialect, 1.0).id("stuck");
        let stuck = Analyzer::connect(distributor.analyzers, &options.clone().not_reading());
        let other = Analyzer::connect(distributor.analyzers, &options.id("other"));
        distributor.wait_lanes(2);
        // 40 MB: far more than the stuck one's window and sockets hold of its half.
        Emitter::start(distributor.emitters, 0..MESSAGES, 1019).join();
        until_read(&[&other], MESSAGES as usize * 3 / 5);
        assert_eq!(stuck.read(), 0);
        stuck.set_reading(true);
        until_read(&[&stuck, &other], MESSAGES as usize);
        assert_exactly_once(&[&stuck, &other], 0..MESSAGES);
        assert_eq!(distributor.stop().assert_clean().received, MESSAGES);
    }
}

// The end ------------------------------------------------------------------------------------------

#[test]
fn sigterm_drains_what_was_taken_in() {
    for (dialect, shards) in [
        (Dialect::Compact, 1),
        (Dialect::Typed, 4),
        (Dialect::Native, 1),
        (Dialect::Native, 4),
    ] {
        let distributor = Distributor::start(&format!("--shards {shards}"));
        let links = ["a", "b"].map(|id| analyzer(&distributor, dialect, id, 1.0));
        distributor.wait_lanes(2);
        let links: Vec<Analyzer> = links.into_iter().flatten().collect();
        let analyzers: Vec<&Analyzer> = links.iter().collect();
        let emitters: Vec<_> = (0..4u64)
            .map(|n| Emitter::start(distributor.emitters, n << 32..(n + 1) << 32, 100))
            .collect();
        until_read(&analyzers, 5_000);
        let ended = distributor.stop();
        let balance = ended.assert_clean();
        assert!(ended.stderr.contains("draining"), "{}", ended.stderr);
        for emitter in emitters {
            // Its connection was closed on it, which is how it knows.
            assert!(emitter.end().is_err());
        }
        until("the links to end", || links.iter().all(Analyzer::has_ended));
        let mut ids: Vec<u64> = links.iter().flat_map(Analyzer::ids).collect();
        assert_eq!(ids.len() as u64, balance.received, "{dialect:?} {shards}");
        // What was taken in is the beginning of each emitter's stream, without a gap.
        ids.sort_unstable();
        for n in 0..4u64 {
            let of_emitter: Vec<u64> = ids.iter().filter(|id| **id >> 32 == n).copied().collect();
            let taken = n << 32..(n << 32) + of_emitter.len() as u64;
            assert_none_missing(of_emitter, taken);
        }
        if dialect == Dialect::Native {
            assert!(links.iter().all(Analyzer::goodbye_heard));
        }
    }
}

#[test]
fn a_drain_that_nobody_acks_ends_at_its_timeout_and_says_what_is_abandoned() {
    for (dialect, shards) in [(Dialect::Compact, 4), (Dialect::Native, 1)] {
        let flags = format!("--shards {shards} --drain-timeout 1s");
        let distributor = Distributor::start(&flags);
        let options = Options::new(dialect, 1.0).acks(Acks::Never);
        let analyzer = Analyzer::connect(distributor.analyzers, &options);
        distributor.wait_log("analyzer up");
        if dialect == Dialect::Compact {
            distributor.wait_lanes(1);
        }
        emit(&distributor, 1_000, 8);
        until_read(&[&analyzer], 1_000);
        let ended = distributor.stop();
        assert_eq!(ended.code, Some(3), "{ended:#?}");
        let balance = ended.balance();
        assert_eq!((balance.received, balance.in_flight), (1_000, 1_000));
        let says = "abandoned: 1000 sent and not acknowledged, 0 not sent";
        assert!(ended.stdout.contains(says), "{}", ended.stdout);
        let (least, most) = (Duration::from_millis(900), Duration::from_secs(6));
        assert!((least..most).contains(&ended.took), "{:?}", ended.took);
    }
}

#[test]
fn a_drain_without_analyzers_abandons_what_is_queued() {
    let distributor = Distributor::start("--shards 1 --drain-timeout 1s");
    let options = Options::new(Dialect::Compact, 1.0).acks(Acks::Never);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    emit(&distributor, 100, 1);
    until_read(&[&analyzer], 100);
    analyzer.close();
    distributor.wait_log("analyzer down");
    let ended = distributor.stop();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert_eq!(ended.balance().queued, 100, "{}", ended.stdout);
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let distributor = Distributor::start("--shards 4 --drain-timeout 10m");
    let options = Options::new(Dialect::Compact, 1.0).acks(Acks::Never);
    let analyzer = Analyzer::connect(distributor.analyzers, &options);
    distributor.wait_lanes(1);
    emit(&distributor, 80, 8);
    until_read(&[&analyzer], 80);
    distributor.terminate();
    distributor.wait_log("draining");
    let ended = distributor.stop();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert_eq!(ended.balance().in_flight, 80);
}

/// Many analyzers share an arena: each window is small, but never so small that a client which ACKs
/// every tenth message has nothing left to ACK.
fn reference_clients_that_ack_every_tenth_message(count: usize, flags: &str) {
    const MESSAGES: u64 = 300_000;
    let distributor = Distributor::start(&format!("--shards 1 --ack-timeout 2s {flags}"));
    let options = Options::new(Dialect::Compact, 1.0).acks(Acks::Every(10));
    let analyzers: Vec<Analyzer> = (0..count)
        .map(|_| Analyzer::connect(distributor.analyzers, &options))
        .collect();
    distributor.wait_lanes(count);
    Emitter::start(distributor.emitters, 0..MESSAGES, 251).join();
    let analyzers: Vec<&Analyzer> = analyzers.iter().collect();
    until_read(&analyzers, MESSAGES as usize);
    assert_exactly_once(&analyzers, 0..MESSAGES);
    assert_eq!(distributor.lines("analyzer down"), [""; 0]);
}

#[test]
fn forty_reference_clients_on_one_arena_keep_flowing() {
    reference_clients_that_ack_every_tenth_message(40, "--arena 64MiB --batch-bytes 256KiB");
}

#[test]
fn as_many_reference_clients_as_an_arena_serves_keep_flowing() {
    // 256 batch buffers, six for each client.
    reference_clients_that_ack_every_tenth_message(42, "--arena 64MiB --batch-bytes 256KiB");
}

#[test]
fn a_reference_client_with_a_small_window_keeps_flowing() {
    reference_clients_that_ack_every_tenth_message(1, "--window 512KiB --batch-bytes 256KiB");
}

#[test]
fn one_analyzer_too_many_is_refused_and_the_next_one_after_a_leave_is_not() {
    // 64 batch buffers serve ten analyzers.
    let distributor = Distributor::start("--shards 1 --arena 16MiB --batch-bytes 256KiB");
    let connect = || Analyzer::connect(distributor.analyzers, &Options::new(Dialect::Compact, 1.0));
    let mut analyzers: Vec<_> = (0..10).map(|_| connect()).collect();
    distributor.wait_lanes(10);
    for _ in 0..3 {
        let refused = connect();
        until("the refusal", || refused.has_ended());
    }
    drop(analyzers.pop());
    distributor.wait_lanes(9);
    analyzers.push(connect());
    distributor.wait_lanes(10);
    emit(&distributor, 1000, 1);
    let all: Vec<&Analyzer> = analyzers.iter().collect();
    until_read(&all, 1000);
    assert_exactly_once(&all, 0..1000);
    let ended = distributor.stop();
    assert_eq!(ended.assert_clean().received, 1000);
    assert_eq!(ended.count("too_many_analyzers"), 3);
}
