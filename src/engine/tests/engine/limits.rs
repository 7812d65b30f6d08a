//! Limits, thresholds and counts, to the last message and buffer.

use std::sync::Arc;

use weir_engine::Port;
use weir_engine::{
    BufferId, Engine, EngineConfig, Entry, Ingest, LaneId, LinkEpoch, Memory, OnSlow, Reach,
    Reason, Roster, Sink, Span, TableChanges, VecMemory, Window,
};

use weir_testkit::rig::{config, numbered, plain_roster, Rig, BUFFER_BYTES, SHARD};

fn engine(config: EngineConfig) -> Engine<VecMemory> {
    let memory = VecMemory::new(config.buffers as usize, config.buffer_bytes as usize);
    let mut engine = Engine::new(config, memory);
    engine.emitter_opened(0, &Port::emitters().into());
    engine
}

/// Native analyzers of weight 1 with links of this shard and what they want un-ACKed at most.
fn connect_native(engine: &mut Engine<VecMemory>, windows: &[Window]) -> Vec<LaneId> {
    let epoch = |analyzer: u32| LinkEpoch::new(SHARD, u64::from(analyzer) + 1);
    let entries = (0..).zip(windows).map(|(analyzer, _)| Entry {
        analyzer,
        name: Arc::from(analyzer.to_string()),
        weight: 1.0,
        draining: false,
        pinned: false,
        ejected: false,
        sink: Sink::Native,
        reach: Reach::LinkPerShard,
    });
    let roster = Roster {
        epoch: engine.roster_epoch() + 1,
        entries: entries.collect(),
    };
    let link = |entry: &Entry| Some((epoch(entry.analyzer), windows[entry.analyzer as usize]));
    assert!(engine.apply_roster(&roster, link));
    let lanes = (0..).zip(windows);
    lanes
        .map(|(analyzer, _)| engine.lane_of(epoch(analyzer)).expect("it is up"))
        .collect()
}

/// Sends frames of 1,000 bytes until no lane takes any; buffers that each lane holds then.
fn buffers_when_full(engine: &mut Engine<VecMemory>) -> Vec<u64> {
    while engine.ingest(0, &numbered(1, 1000)) == Ingest::Taken {}
    let held = engine.lane_reports().map(|lane| {
        assert!(lane.full);
        lane.held_bytes / u64::from(BUFFER_BYTES)
    });
    held.collect()
}

/// A lane is full when it has taken one buffer more than its window.
#[test]
fn windows_divide_what_the_floor_leaves_of_the_arena() {
    for (buffers, frame_bytes_max, window_bytes, lanes, expected) in [
        // (256 - floor 8 - 16) less one frame of 5.
        (256, 16_384, u64::MAX, 1, 227 + 1),
        // (256 - floor 9 - 16) / 2 less one frame.
        (256, 16_384, u64::MAX, 2, 110 + 1),
        // (256 - floor 47 - 16) / 40 less half of that.
        (256, 16_384, u64::MAX, 40, 2 + 1),
        // (32 - floor 6 - 2) / 3 less one frame of 1.
        (32, 3000, u64::MAX, 3, 7 + 1),
        // 64 KiB less one frame.
        (256, 3000, 65_536, 2, 15 + 1),
        (256, 3000, 65_535, 2, 14 + 1),
        // Never less than two.
        (256, 3000, 0, 2, 2 + 1),
    ] {
        let mut engine = engine(EngineConfig {
            window_bytes,
            ..config(buffers, frame_bytes_max)
        });
        let (roster, _) = plain_roster(SHARD, &vec![1.0; lanes]);
        assert!(engine.apply_roster(&roster, |_| None));
        let held = buffers_when_full(&mut engine);
        assert_eq!(held, vec![expected; lanes], "{buffers} {window_bytes}");
    }
}

#[test]
fn the_window_that_an_analyzer_asks_for_is_kept() {
    let buffer = u64::from(BUFFER_BYTES);
    let wishes = [0, 3 * buffer, 3 * buffer + 100, 5 * buffer].map(|bytes| Window {
        described: false,
        bytes,
        ..Window::ANY
    });
    let mut engine = engine(config(256, 3000));
    connect_native(&mut engine, &wishes);
    assert_eq!(buffers_when_full(&mut engine), [1, 4, 4, 6]);

    let mut engine = self::engine(EngineConfig {
        window_messages: 7,
        ..config(256, 3000)
    });
    let wishes = [0, 1, 5, 9].map(|messages| Window {
        described: false,
        messages,
        ..Window::ANY
    });
    let lanes = connect_native(&mut engine, &wishes);
    buffers_when_full(&mut engine);
    let queued: Vec<_> = engine.lane_reports().map(|lane| lane.queued).collect();
    assert_eq!(queued, [1, 1, 5, 7]);
    // The window moves with the ACKs.
    let range = engine.transmit(lanes[3], 0, false).expect("a buffer full");
    assert_eq!(range.messages, 4);
    engine.acked(lanes[3], 3, 0);
    buffers_when_full(&mut engine);
    assert_eq!(
        engine.lane_reports().last().map(|lane| lane.queued),
        Some(6)
    );
}

/// Dead lanes whose buffers the kernel still reads are what takes an arena to its floor.
#[test]
fn intake_stops_just_below_the_floor_and_resumes_well_above_it() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let (dies, stays) = (rig.connect_plain(1.0), rig.connect_plain(1.0));
    for number in 1..=30 {
        assert!(rig.send(emitter, numbered(number, 3000)));
    }
    rig.transmit_all(dies, true);
    rig.kill(dies);
    rig.engine.reroute();
    let held = rig.held(dies);
    assert_eq!(held, 15, "the kernel holds them");
    while rig.send(emitter, numbered(rig.received + 1, 3000)) {}
    // One frame, one lane and two are the floor; a frame was taken when four were free.
    assert_eq!(rig.engine.buffers().0, 3);
    assert!(!rig.engine.is_full(rig.peers[stays].lane));
    // The oldest, whose place the last one takes in the list; and so on.
    rig.release(dies, 0, false);
    assert_eq!(rig.engine.buffers().0, 4);
    assert!(!rig.engine.can_ingest(), "it would stop again at once");
    for free in 5..8 {
        rig.release(dies, free - 4, false);
        assert_eq!(
            (rig.engine.buffers().0, rig.engine.can_ingest()),
            (free, false)
        );
    }
    rig.release(dies, 4, false);
    assert!(
        rig.engine.can_ingest(),
        "a sixteenth more than the floor is free"
    );
    // Not stalled any more: it goes down to the floor again, without a stop in between.
    rig.offer(emitter, usize::MAX);
    assert!(rig.send(emitter, numbered(rig.received + 1, 3000)));
    assert!(rig.engine.buffers().0 < 8 && rig.engine.can_ingest());
    while rig.send(emitter, numbered(rig.received + 1, 3000)) {}
    assert_eq!(rig.engine.buffers().0, 3);
    rig.finish();
}

#[test]
fn the_floor_counts_at_most_a_quarter_of_all_buffers_for_lanes() {
    let mut rig = Rig::new(config(24, 3000));
    let emitter = rig.emitter();
    let dies = rig.connect_plain(1.0);
    for number in 1..=7 {
        assert!(rig.send(emitter, numbered(number, 3000)));
    }
    rig.transmit_all(dies, true);
    rig.kill(dies);
    // Eight links whose deaths are not known yet, more than a quarter of 24 buffers.
    for table in 0..2 {
        let mut roster = plain_roster(SHARD + 1 + table, &[1.0; 4]).0;
        roster.epoch = rig.engine.roster_epoch() + 1;
        assert!(rig.engine.apply_roster(&roster, |_| None));
    }
    rig.engine.reroute();
    let frame = numbered(1, 3000);
    while rig.engine.ingest(emitter, &frame) == Ingest::Taken {}
    assert!(rig
        .engine
        .lane_reports()
        .any(|lane| !lane.down && !lane.full));
    assert_eq!(rig.engine.buffers().0, 1 + 6 + 2 - 1);
}

#[test]
fn intake_needs_a_lane_that_can_take() {
    let mut rig = Rig::new(EngineConfig {
        window_messages: 2,
        ..config(64, 3000)
    });
    let emitter = rig.emitter();
    assert!(!rig.engine.can_ingest(), "nobody is there");
    let idle = rig.connect_plain(0.0);
    assert!(!rig.engine.can_ingest(), "it shall get nothing");
    let peer = rig.connect_plain(1.0);
    assert!(rig.engine.can_ingest());
    assert!(rig.send(emitter, numbered(1, 100)) && rig.send(emitter, numbered(2, 100)));
    assert!(rig.engine.is_full(rig.peers[peer].lane));
    assert!(!rig.engine.can_ingest(), "its window is full");
    rig.transmit_all(peer, false);
    rig.ack(peer, 1);
    assert!(rig.engine.can_ingest());
    rig.kill(peer);
    rig.peers[idle].weight = 1.0;
    rig.publish();
    assert!(!rig.engine.can_ingest(), "a re-route is open");
    rig.engine.reroute();
    assert!(rig.engine.can_ingest());
    rig.kill(idle);
    assert!(!rig.engine.can_ingest());
    rig.connect_plain(1.0);
    rig.finish();
}

#[test]
fn full_windows_are_counted_as_changes_of_the_table() {
    let mut rig = Rig::new(EngineConfig {
        window_messages: 1,
        ..config(64, 3000)
    });
    let emitter = rig.emitter();
    let peer = rig.connect_plain(1.0);
    let changes = |rig: &Rig| {
        let TableChanges {
            tables,
            availability,
        } = rig.engine.table_changes();
        (tables, availability)
    };
    for round in 0..3 {
        assert_eq!(changes(&rig), (1, 2 * round));
        assert!(rig.send(emitter, numbered(round + 1, 100)));
        assert_eq!(changes(&rig), (1, 2 * round + 1));
        rig.transmit_all(peer, false);
        rig.ack(peer, 1);
    }
}

#[test]
fn full_lanes_of_other_shards_are_named_to_their_owners() {
    let mut rig = Rig::new(EngineConfig {
        window_messages: 2,
        ..config(64, 3000)
    });
    let emitter = rig.emitter();
    let own = rig.connect_plain(1.0);
    let others = [4, 9].map(|home| rig.connect(false, home, 1.0, u64::MAX));
    let named = |rig: &Rig| rig.engine.full_lanes_of_others().collect::<Vec<_>>();
    assert_eq!(named(&rig), []);
    for number in 1..=6 {
        assert!(rig.send(emitter, numbered(number, 100)));
    }
    assert!(rig.engine.is_full(rig.peers[own].lane));
    let [four, nine] = others.map(|peer| rig.peers[peer].epoch);
    assert_eq!(named(&rig), [(four, 4, 0), (nine, 9, 0)]);
    rig.transmit_all(others[0], false);
    rig.ack(others[0], 1);
    assert_eq!(named(&rig), [(nine, 9, 0)]);
    assert!(rig.send(emitter, numbered(7, 100)));
    assert_eq!(named(&rig), [(four, 4, 1), (nine, 9, 0)]);
    rig.kill(others[1]);
    assert_eq!(named(&rig), [(four, 4, 1)]);
    rig.connect_plain(1.0);
    rig.finish();
}

#[test]
fn what_is_unsent_is_known() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let peer = rig.connect_plain(1.0);
    let lane = rig.peers[peer].lane;
    assert!(!rig.engine.has_unsent(lane));
    assert!(rig.send(emitter, numbered(1, 100)));
    assert!(rig.engine.has_unsent(lane));
    rig.transmit_all(peer, false);
    assert!(!rig.engine.has_unsent(lane));
    assert!(rig.send(emitter, numbered(2, 100)));
    rig.kill(peer);
    assert!(!rig.engine.has_unsent(lane), "it is down");
}

#[test]
fn an_emitter_that_leaves_within_a_frame_is_counted() {
    let mut rig = Rig::new(config(16, 3000));
    let emitter = rig.emitter();
    rig.connect_plain(1.0);
    let cut_off = |rig: &Rig| rig.engine.counters.of(Reason::FrameCutOff);
    assert!(rig.send(emitter, numbered(1, 100)));
    rig.reopen(emitter);
    assert_eq!(cut_off(&rig), 0, "it left between frames");
    for count in 1..=3 {
        rig.write(emitter, numbered(2, 100));
        rig.offer(emitter, 1);
        rig.reopen(emitter);
        assert_eq!(cut_off(&rig), count);
    }
}

#[test]
fn frames_are_counted_with_their_headers() {
    let mut rig = Rig::new(config(16, 3000));
    let emitter = rig.emitter();
    rig.connect_plain(1.0);
    for (number, bytes) in [(1, 100), (2, 13), (3, 3000)] {
        assert!(rig.send(emitter, numbered(number, bytes)));
    }
    assert_eq!(rig.engine.counters.received_bytes, 3113);
}

#[test]
fn bytes_that_are_offered_again_and_again_take_partial_memory_once() {
    let mut rig = Rig::new(EngineConfig {
        partial_bytes_max: 3000,
        ..config(16, 3000)
    });
    let (first, second) = (rig.emitter(), rig.emitter());
    rig.write(first, numbered(1, 2500));
    let peer = rig.connect_plain(1.0);
    assert_eq!(rig.offer(first, 1500), 1500);
    rig.kill(peer);
    for _ in 0..20 {
        // Somebody could take it when the intake looked, and nobody can when it comes to that.
        let peer = rig.connect_plain(1.0);
        assert!(rig.engine.can_ingest());
        rig.kill(peer);
        assert_eq!(rig.offer(first, usize::MAX), 0);
    }
    rig.write(second, numbered(2, 2000));
    let peer = rig.connect_plain(1.0);
    assert_eq!(rig.offer(second, 1500), 1500, "1,500 of 3,000 are free");
    rig.reopen(second);
    rig.kill(peer);
    rig.connect_plain(1.0);
    rig.finish();
}

#[test]
fn what_a_death_leaves_is_counted_by_what_was_sent() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let (dies, stays) = (rig.connect_plain(1.0), rig.connect_plain(0.0));
    for number in 1..=10 {
        assert!(rig.send(emitter, numbered(number, 100)));
    }
    assert_eq!(rig.transmit_all(dies, false).len(), 10);
    rig.ack(dies, 4);
    for number in 11..=13 {
        assert!(rig.send(emitter, numbered(number, 100)));
    }
    rig.peers[stays].weight = 1.0;
    rig.publish();
    rig.kill(dies);
    rig.engine.reroute();
    let counters = &rig.engine.counters;
    assert_eq!((counters.rerouted, counters.duplicates_possible), (9, 6));
    let lane = rig.engine.lane_reports().next().expect("the living one");
    assert_eq!((lane.in_flight, lane.queued), (0, 9));
    rig.transmit_all(stays, false);
    let ended = *rig.engine.ended().next().expect("one ended");
    assert_eq!((ended.left(), ended.rerouted_ns), (9, None));
    let reports = rig.rerouted();
    rig.engine.note_rerouted(&reports[0], 77);
    let ended = *rig.engine.ended().next().expect("one ended");
    assert_eq!(ended.rerouted_ns, Some(77));
}

#[test]
fn a_link_that_ends_with_nothing_open_is_over_at_once() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let dies = rig.connect_plain(1.0);
    assert!(rig.send(emitter, numbered(1, 100)));
    rig.transmit_all(dies, false);
    rig.ack_all(dies);
    let now_ns = rig.now_ns;
    rig.kill(dies);
    let ended = *rig.engine.ended().next().expect("one ended");
    assert_eq!((ended.left(), ended.rerouted_ns), (0, Some(now_ns)));
    assert_eq!(rig.engine.next_rerouted(), None);
}

#[test]
fn numbers_of_the_engine_are_what_they_say() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let weights = [5.0, 3.0, 2.0];
    let peers = weights.map(|weight| rig.connect_plain(weight));
    assert_eq!(rig.engine.roster_epoch(), 3);
    // The tree of these weights: 5 on one side, 3 and 2 on the other.
    assert!((rig.engine.share_bound() - (1.0 + 3.0 / 5.0) / 2.0).abs() < 1e-9);
    assert_eq!(rig.engine.buffers(), (64, 64, 64));
    for number in 1..=10 {
        assert!(rig.send(emitter, numbered(number, 100)));
    }
    assert_eq!(rig.engine.buffers(), (61, 61, 64));
    for peer in peers {
        rig.transmit_all(peer, true);
        rig.ack_all(peer);
        rig.release_all(peer);
    }
    assert_eq!(rig.engine.buffers(), (64, 61, 64));
    for (lane, expected) in rig.engine.lane_reports().zip([5, 3, 2]) {
        assert_eq!((lane.assigned, lane.acked), (expected, expected));
        assert_eq!((lane.in_flight, lane.queued), (0, 0));
    }
}

#[test]
fn ack_latencies_count_every_message_from_its_send() {
    let mut rig = Rig::new(config(64, 20_000));
    let emitter = rig.emitter();
    let peer = rig.connect_native(1.0);
    for (number, bytes) in [(1, 100), (2, 100), (3, 20_000), (4, 100)] {
        assert!(rig.send(emitter, numbered(number, bytes)));
    }
    rig.now_ns = 1_000_000_000;
    rig.transmit_all(peer, false);
    rig.now_ns += 3_000_000;
    rig.ack(peer, 1);
    rig.now_ns += 40_000_000;
    rig.ack(peer, 3);
    let report = rig.engine.lane_reports().next().expect("one lane");
    let latency_us = report.latency_us;
    let latency_us = latency_us.histogram();
    assert_eq!(latency_us.len(), 4);
    assert_eq!(latency_us.count_between(2_900, 3_100), 1);
    assert_eq!(latency_us.count_between(42_000, 44_000), 3);
}

/// One identity for 256 bytes of arena: 16 for each buffer here.
#[test]
fn identities_that_lanes_keep_beside_their_bytes_are_bounded() {
    let mut rig = Rig::new(config(16, 3000));
    let emitter = rig.emitter();
    let (dies, heir) = (rig.connect_plain(1.0), rig.connect_plain(0.0));
    for number in 1..=400 {
        assert!(rig.send(emitter, numbered(number, 20)));
    }
    rig.peers[heir].weight = 1.0;
    rig.publish();
    rig.kill(dies);
    rig.engine.reroute();
    assert_eq!(rig.engine.counters.identities_lost, 400 - 16 * 16);
    // ACKs make room for others.
    rig.transmit_all(heir, false);
    rig.ack(heir, 200);
    rig.check();
    let next = rig.connect_plain(1.0);
    rig.peers[heir].weight = 0.0;
    rig.publish();
    rig.kill(heir);
    rig.engine.reroute();
    assert_eq!(rig.engine.counters.identities_lost, 400 - 16 * 16);
    assert_eq!(rig.transmit_all(next, false).len(), 200);
    rig.finish();
}

#[test]
fn shares_are_those_since_the_last_change() {
    let mut rig = Rig::new(EngineConfig {
        window_messages: 6,
        ..config(64, 3000)
    });
    let emitter = rig.emitter();
    let (one, three) = (rig.connect_plain(1.0), rig.connect_plain(3.0));
    let gone = rig.connect_plain(4.0);
    for number in 1..=8 {
        assert!(rig.send(emitter, numbered(number, 100)));
    }
    let shares = |rig: &Rig| {
        let shares = rig.engine.shares();
        shares
            .map(|share| (share.weight, share.given, share.full))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shares(&rig),
        [(1.0, 1, false), (3.0, 3, false), (4.0, 4, false)]
    );
    rig.transmit_all(gone, false);
    rig.ack_all(gone);
    rig.kill(gone);
    assert_eq!(shares(&rig), [(1.0, 0, false), (3.0, 0, false)]);
    for number in 9..=12 {
        assert!(rig.send(emitter, numbered(number, 100)));
    }
    assert_eq!(shares(&rig), [(1.0, 1, false), (3.0, 3, true)]);
    assert!(rig.engine.is_full(rig.peers[three].lane));
    assert!(!rig.engine.is_full(rig.peers[one].lane));
}

#[test]
fn the_largest_bound_so_far_is_remembered() {
    let mut rig = Rig::new(config(64, 3000));
    let peers = [5.0, 3.0, 2.0].map(|weight| rig.connect_plain(weight));
    let bound = (1.0 + 3.0 / 5.0) / 2.0;
    assert!((rig.engine.share_bound_max() - bound).abs() < 1e-9);
    rig.kill(peers[0]);
    assert!((rig.engine.share_bound() - 0.5).abs() < 1e-9);
    assert!((rig.engine.share_bound_max() - bound).abs() < 1e-9);
}

struct NoMemory;

impl Memory for NoMemory {
    fn write(&mut self, _: BufferId, _: u32, _: &[u8]) {
        unreachable!("nothing is taken in");
    }

    fn room(&mut self, _: BufferId, _: u32, _: usize) -> &mut [u8] {
        unreachable!("nothing is taken in");
    }

    fn read(&self, _: Span) -> &[u8] {
        unreachable!("nothing is sent");
    }
}

#[test]
fn an_arena_serves_a_sixth_of_its_buffers_as_analyzers_up_to_half_of_all_leaf_ids() {
    for (buffers, most) in [(12, 2), (64, 10), (256, 42), (400_000, 1 << 15)] {
        let engine = Engine::new(config(buffers, 3000), NoMemory);
        assert_eq!(engine.lanes_max(), most);
    }
}

/// A lane in the dirty list whose link dies and whose place is used again is there once.
#[test]
fn a_place_that_is_used_again_is_dirty_once() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let dies = rig.connect_plain(1.0);
    assert!(rig.send(emitter, numbered(1, 100)));
    rig.transmit_all(dies, false);
    rig.ack_all(dies);
    rig.kill(dies);
    let next = rig.connect_plain(1.0);
    assert_eq!(rig.peers[next].lane, rig.peers[dies].lane);
    assert!(rig.send(emitter, numbered(2, 100)));
    assert_eq!(rig.engine.next_dirty(), Some(rig.peers[next].lane));
    assert_eq!(rig.engine.next_dirty(), None);
}

/// With the policy to wait, one full lane stops everybody; with the other, none does.
#[test]
fn one_full_lane_stops_the_others_only_if_they_shall_wait() {
    for (on_slow, goes_on) in [(OnSlow::Spill, true), (OnSlow::Wait, false)] {
        let mut rig = Rig::new(EngineConfig {
            on_slow,
            ..config(64, 3000)
        });
        let emitter = rig.emitter();
        let slow = rig.connect(false, SHARD, 1.0, u64::MAX);
        let slow_native = rig.connect(true, SHARD, 1.0, 1);
        assert!(rig.send(emitter, numbered(1, 100)));
        assert!(rig.send(emitter, numbered(2, 100)));
        assert!(rig.engine.is_full(rig.peers[slow_native].lane));
        assert!(!rig.engine.is_full(rig.peers[slow].lane));
        assert_eq!(rig.engine.can_ingest(), goes_on);
        assert_eq!(rig.send(emitter, numbered(3, 100)), goes_on);
        rig.finish();
    }
}
