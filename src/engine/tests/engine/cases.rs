//! Single stories, each about one promise.

use weir_engine::{EngineConfig, Ingest, LinkEpoch, OnSlow, Port, Reason, SourceError};
use weir_protocol::frame::FrameError;

use weir_testkit::numbered::number_of;
use weir_testkit::rig::{config, numbered, Rig, BUFFER_BYTES, SHARD};
use weir_testkit::wire::frame_of;

#[test]
fn a_frame_in_two_pieces_survives_a_stall_between_them() {
    let mut rig = Rig::new(config(16, 3000));
    let emitter = rig.emitter();
    rig.write(emitter, numbered(1, 100));
    assert_eq!(rig.offer(emitter, 60), 60);
    assert_eq!(rig.offer(emitter, 40), 0, "nobody is there to take it");
    assert_eq!(rig.offer(emitter, 1), 0);
    rig.connect_plain(1.0);
    rig.finish();
    assert_eq!(rig.received, 1);
}

#[test]
fn small_messages_behind_a_split_one_are_in_a_batch() {
    let mut rig = Rig::new(config(32, 9000));
    let (emitter, peer) = (rig.emitter(), rig.connect_native(1.0));
    for (number, bytes) in (1..).zip([9000, 20, 30, 9000, 9000, 40]) {
        assert!(rig.send(emitter, numbered(number, bytes)));
    }
    let got = rig.transmit_all(peer, true);
    let numbers: Vec<_> = got.iter().filter_map(|got| number_of(&got.frame)).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    rig.finish();
}

/// Fills the window of `peer` with frames of 1,000 bytes; the number of them.
fn fill(rig: &mut Rig, emitter: usize, peer: usize) -> u64 {
    let lane = rig.peers[peer].lane;
    let before = rig.received;
    while !rig.engine.is_full(lane) {
        assert!(rig.send(emitter, numbered(rig.received + 1, 1000)));
    }
    rig.received - before
}

#[test]
fn a_window_opens_when_the_kernel_lets_go_after_the_ack() {
    for on_slow in [OnSlow::Spill, OnSlow::Wait] {
        let mut rig = Rig::new(EngineConfig {
            window_bytes: 16_384,
            on_slow,
            ..config(64, 3000)
        });
        let (emitter, peer) = (rig.emitter(), rig.connect_native(1.0));
        let lane = rig.peers[peer].lane;
        let messages = fill(&mut rig, emitter, peer);
        assert!(!rig.engine.can_ingest());
        rig.transmit_all(peer, true);
        rig.ack(peer, messages);
        assert!(rig.engine.is_full(lane), "the kernel still has the buffers");
        rig.release_all(peer);
        assert!(!rig.engine.is_full(lane) && rig.engine.can_ingest());
        rig.finish();
    }
}

#[test]
fn analyzers_that_return_get_lanes_while_the_old_ones_wait_for_them() {
    let mut rig = Rig::new(config(12, 3000));
    let (emitter, most) = (rig.emitter(), rig.engine.lanes_max());
    let mut number = 0;
    for _ in 0..4 {
        let first = rig.peers.len();
        for _ in 0..most {
            rig.connect_native(1.0);
        }
        for _ in 0..most {
            number += 1;
            rig.send(emitter, numbered(number, 100));
        }
        (first..first + most).for_each(|peer| rig.kill(peer));
    }
    rig.connect_native(1.0);
    rig.finish();
    assert_eq!(rig.received, number);
}

#[test]
fn analyzers_beyond_the_limit_get_nothing_and_are_counted() {
    let mut rig = Rig::new(config(12, 3000));
    let emitter = rig.emitter();
    for _ in 0..rig.engine.lanes_max() {
        rig.connect_plain(1.0);
    }
    let surplus = LinkEpoch::new(SHARD, 99);
    rig.announce_surplus(surplus);
    assert_eq!(rig.engine.lane_of(surplus), None);
    assert_eq!(rig.engine.counters.of(Reason::TooManyAnalyzers), 1);
    rig.send(emitter, numbered(1, 100));
    rig.finish();
    rig.kill(0);
    rig.announce_surplus(surplus);
    assert!(rig.engine.lane_of(surplus).is_some());
}

#[test]
fn a_lane_holds_no_more_than_its_window_even_of_split_messages() {
    let window_bytes = 64 * 1024;
    let mut rig = Rig::new(EngineConfig {
        window_bytes,
        ..config(96, 20_000)
    });
    let (emitter, peer) = (rig.emitter(), rig.connect_native(1.0));
    let lane = rig.peers[peer].lane;
    while !rig.engine.is_full(lane) {
        assert!(rig.send(emitter, numbered(rig.received + 1, 20_000)));
        rig.check_windows();
    }
    rig.finish();
}

/// Reference analyzers may wait for more before they ACK, so a lane that is not full must get more.
#[test]
fn receiving_resumes_when_no_lane_is_full() {
    let most = Rig::new(config(64, 3000)).engine.lanes_max();
    for lanes in 1..=most {
        let mut rig = Rig::new(config(64, 3000));
        let emitter = rig.emitter();
        for _ in 0..lanes {
            rig.connect_plain(1.0);
        }
        while rig.send(emitter, numbered(rig.received + 1, 3000)) {}
        for peer in 0..lanes {
            rig.transmit_all(peer, true);
            rig.release_all(peer);
            while rig.engine.is_full(rig.peers[peer].lane) {
                rig.ack(peer, 1);
            }
        }
        assert!(rig.engine.can_ingest(), "{lanes} lanes");
    }
}

#[test]
fn a_reroute_is_reported_although_a_target_died_and_its_lane_is_used_again() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let (first, second) = (rig.connect_native(1.0), rig.connect_native(1.0));
    (1..=20).for_each(|number| assert!(rig.send(emitter, numbered(number, 100))));
    rig.kill(first);
    rig.engine.reroute();
    assert_eq!(rig.rerouted(), [], "the second has not been written to");
    let third = rig.connect_plain(1.0);
    rig.kill(second);
    rig.engine.reroute();
    let fourth = rig.connect_plain(1.0);
    assert_eq!(
        rig.peers[fourth].lane, rig.peers[second].lane,
        "the lane is used again"
    );
    rig.transmit_all(third, true);
    assert_eq!(rig.rerouted().len(), 2);
    rig.finish();
}

#[test]
fn a_reroute_is_reported_although_an_analyzer_that_got_none_of_it_is_slow() {
    let mut rig = Rig::new(EngineConfig {
        window_messages: 4,
        ..config(64, 3000)
    });
    let emitter = rig.emitter();
    let (slow, dies) = (rig.connect_plain(1.0), rig.connect_plain(1.0));
    (1..=8).for_each(|number| assert!(rig.send(emitter, numbered(number, 100))));
    assert!(rig.engine.is_full(rig.peers[slow].lane));
    let heir = rig.connect_plain(1.0);
    rig.kill(dies);
    rig.engine.reroute();
    assert_eq!(rig.rerouted(), []);
    rig.transmit_all(heir, true);
    assert_eq!(rig.rerouted().len(), 1);
    rig.finish();
}

/// The smallest frames grow the most when they are re-routed to native links: 5 bytes become 13.
#[test]
fn analyzers_that_die_again_and_again_cannot_fill_the_arena_for_ever() {
    for (frame_bytes_max, lag) in [(3000, 1), (20_000, 1), (3000, 3), (20_000, 6)] {
        let mut rig = Rig::new(config(40, frame_bytes_max));
        let emitter = rig.emitter();
        rig.connect_native(1.0);
        rig.write(emitter, numbered(1, frame_bytes_max as usize));
        for severity in 0..=u8::MAX {
            (0..200).for_each(|_| rig.write(emitter, frame_of(severity, b"")));
        }
        rig.write(emitter, numbered(2, frame_bytes_max as usize));
        for round in 0..40 {
            rig.offer(emitter, usize::MAX);
            rig.engine.reroute();
            let alive: Vec<_> = (0..rig.peers.len())
                .filter(|peer| rig.peers[*peer].up)
                .collect();
            for peer in alive {
                rig.transmit_all(peer, true);
                rig.kill(peer);
            }
            // The kernel may be slow to let go of what it was sending to the dead.
            if round % lag == 0 {
                (0..rig.peers.len()).for_each(|peer| rig.release_all(peer));
            }
            for _ in 0..1 + round % rig.engine.lanes_max() {
                rig.connect_native(1.0);
            }
        }
        rig.finish();
        assert_eq!(rig.received, 2 + 256 * 200);
    }
}

#[test]
fn a_bad_frame_is_placed_and_counted_once_in_any_pieces() {
    for chunk in [1, 2, 3, 24, 100] {
        let mut rig = Rig::new(EngineConfig {
            partial_bytes_max: 3000,
            ..config(16, 3000)
        });
        let emitter = rig.emitter();
        rig.connect_plain(1.0);
        for _ in 0..200 {
            let bytes = [&numbered(1, 20)[..], &numbered(2, 30), &[0, 0, 0, 4, 9, 9]].concat();
            let mut outcomes = bytes
                .chunks(chunk)
                .map(|chunk| rig.engine.ingest(emitter, chunk));
            let bad = outcomes.find(|outcome| *outcome != Ingest::Taken);
            let error = SourceError::Frame(FrameError::TooShort { length: 4 });
            let (reason, offset) = (Reason::FrameTooShort, 50);
            let expected = Ingest::BadStream {
                error,
                reason,
                offset,
            };
            assert_eq!(bad, Some(expected));
            rig.engine.emitter_closed(emitter);
            rig.engine.emitter_opened(emitter, &Port::emitters().into());
        }
        let count = |reason| rig.engine.counters.of(reason);
        assert_eq!(count(Reason::FrameTooShort), 200);
        assert_eq!(count(Reason::FrameCutOff), 0);
        assert_eq!(rig.engine.balance().received, 400);
    }
}

#[test]
fn a_full_lane_without_a_weight_is_not_waited_for() {
    let mut rig = Rig::new(EngineConfig {
        window_messages: 2,
        on_slow: OnSlow::Wait,
        ..config(64, 3000)
    });
    let emitter = rig.emitter();
    let (leaves, stays) = (rig.connect_plain(1.0), rig.connect_plain(1.0));
    (1..=3).for_each(|number| assert!(rig.send(emitter, numbered(number, 100))));
    assert!(!rig.send(emitter, numbered(4, 100)) && !rig.engine.can_ingest());
    let full = [leaves, stays].map(|peer| rig.engine.is_full(rig.peers[peer].lane));
    let full = if full[0] { leaves } else { stays };
    rig.peers[full].weight = 0.0;
    rig.publish();
    assert!(rig.engine.can_ingest());
    rig.peers[full].weight = 1.0;
    rig.publish();
    assert!(!rig.engine.can_ingest());
    rig.finish();
}

#[test]
fn a_table_that_still_names_a_dead_link_does_not_bring_it_back() {
    let mut rig = Rig::new(config(16, 3000));
    let emitter = rig.emitter();
    let (dies, stays) = (rig.connect_plain(1.0), rig.connect_plain(1.0));
    rig.kill(dies);
    rig.announce_surplus(rig.peers[dies].epoch);
    assert_eq!(rig.engine.lane_of(rig.peers[dies].epoch), None);
    assert!(rig.send(emitter, numbered(1, 100)));
    assert_eq!(rig.transmit_all(stays, true).len(), 1);
    rig.finish();
}

#[test]
fn nothing_new_is_taken_in_before_a_dead_lane_is_empty() {
    let mut rig = Rig::new(config(16, 3000));
    let emitter = rig.emitter();
    let (dies, stays) = (rig.connect_native(1.0), rig.connect_native(1.0));
    (1..=10).for_each(|number| assert!(rig.send(emitter, numbered(number, 100))));
    rig.transmit_all(stays, true);
    rig.kill(dies);
    assert!(!rig.send(emitter, numbered(11, 100)) && !rig.engine.can_ingest());
    rig.engine.reroute();
    assert!(rig.engine.can_ingest());
    rig.offer(emitter, usize::MAX);
    let got = rig.transmit_all(stays, true);
    let redelivered: Vec<_> = got.iter().map(|got| got.redelivered).collect();
    assert_eq!(
        redelivered,
        [true, true, true, true, true, false],
        "re-routed ones overtake"
    );
    rig.finish();
}

/// The default arena: 256 buffers of 256 KiB, frames to 1 MiB; here all a 64th of that.
#[test]
fn many_lanes_on_a_small_arena_keep_windows_of_several_buffers() {
    let mut rig = Rig::new(config(256, 16_384));
    let emitter = rig.emitter();
    for _ in 0..40 {
        rig.connect_plain(1.0);
    }
    while rig.send(emitter, numbered(rig.received + 1, 1000)) {}
    let held = rig.engine.lane_reports().map(|lane| lane.held_bytes);
    assert!(held.min() >= Some(3 * u64::from(BUFFER_BYTES)));
    rig.finish();
}

/// Two living lanes, a dead one whose buffers the kernel has, and no buffer left. Returns the dead
/// one and the living ones.
fn reroute_without_buffers(rig: &mut Rig, emitter: usize) -> (usize, [usize; 2]) {
    let dies = rig.connect_plain(1.0);
    let living = [rig.connect_plain(0.0), rig.connect_plain(0.0)];
    (1..=18).for_each(|number| assert!(rig.send(emitter, numbered(number, 3000))));
    rig.transmit_all(dies, true);
    rig.peers[dies].weight = 0.0;
    for peer in living {
        rig.peers[peer].weight = 1.0;
    }
    rig.publish();
    (19..=52).for_each(|number| assert!(rig.send(emitter, numbered(number, 3000))));
    rig.kill(dies);
    rig.engine.reroute();
    assert_eq!(
        (rig.engine.buffers().0, rig.engine.counters.rerouted),
        (0, 12)
    );
    (dies, living)
}

#[test]
fn a_message_that_waits_for_a_buffer_keeps_its_lane() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let (dies, _) = reroute_without_buffers(&mut rig, emitter);
    for step in 0..6 {
        // The oldest range that is left; the last one takes its place in the list.
        rig.release(dies, step, false);
        rig.engine.reroute();
        assert_eq!(rig.engine.counters.rerouted, 13 + step as u64);
    }
    let assigned = rig.engine.lane_reports().filter(|lane| !lane.down);
    let assigned: Vec<_> = assigned.map(|lane| lane.assigned).collect();
    assert_eq!(assigned, [26, 26]);
    rig.finish();
}

#[test]
fn a_message_that_waits_for_a_buffer_outlives_its_lane() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let (dies, living) = reroute_without_buffers(&mut rig, emitter);
    for peer in living {
        rig.transmit_all(peer, true);
        rig.kill(peer);
    }
    rig.engine.reroute();
    let short = rig.connect_plain(1.0);
    rig.engine.reroute();
    assert_eq!(
        rig.engine.buffers().0,
        0,
        "it has chosen that lane, and waits"
    );
    rig.kill(short);
    for peer in [dies, living[0], living[1]] {
        rig.release_all(peer);
    }
    rig.engine.reroute();
    let next = rig.connect_plain(1.0);
    assert_eq!(rig.peers[next].lane, rig.peers[short].lane);
    rig.finish();
}

/// An analyzer that is never written to must not keep reports for ever.
#[test]
fn reports_that_wait_too_long_are_given_out_oldest_first() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    rig.connect_plain(0.0);
    for number in 1..=1026 {
        let dies = rig.connect_plain(1.0);
        assert!(rig.send(emitter, numbered(number, 20)));
        rig.peers[0].weight = 1.0;
        rig.peers[dies].weight = 0.0;
        rig.publish();
        rig.kill(dies);
        rig.engine.reroute();
        rig.peers[0].weight = 0.0;
        let early = rig.engine.next_rerouted().map(|report| report.epoch);
        let oldest = (number > 1024).then(|| rig.peers[number as usize - 1024].epoch);
        assert_eq!(early, oldest, "report {number}");
    }
}

#[test]
fn a_message_that_waits_does_not_go_where_nothing_new_may_go() {
    for idle in 0..2 {
        let mut rig = Rig::new(config(64, 3000));
        let emitter = rig.emitter();
        let (dies, living) = reroute_without_buffers(&mut rig, emitter);
        rig.peers[living[idle]].weight = 0.0;
        rig.publish();
        rig.release_all(dies);
        rig.engine.reroute();
        let assigned = rig.engine.lane_reports().filter(|lane| !lane.down);
        let assigned: Vec<_> = assigned.map(|lane| lane.assigned).collect();
        // As many as the other's window takes, and none here.
        assert_eq!((assigned[idle], assigned[1 - idle]), (23, 27));
        rig.finish();
    }
}

#[test]
fn an_ack_that_comes_after_the_death_counts_for_nothing() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let (dies, heir) = (rig.connect_plain(1.0), rig.connect_plain(0.0));
    (1..=5).for_each(|number| assert!(rig.send(emitter, numbered(number, 100))));
    rig.transmit_all(dies, true);
    rig.kill(dies);
    let lane = rig.peers[dies].lane;
    rig.engine.acked(lane, 2, rig.now_ns);
    rig.check();
    rig.peers[heir].weight = 1.0;
    rig.publish();
    rig.engine.reroute();
    rig.engine.acked(lane, 5, rig.now_ns);
    rig.check();
    assert_eq!(rig.transmit_all(heir, true).len(), 5);
    rig.finish();
}

/// A buffer that only the kernel can free does not hold up what others free.
#[test]
fn the_buffers_of_a_newer_death_serve_an_older_one() {
    let mut rig = Rig::new(config(64, 3000));
    let emitter = rig.emitter();
    let (dies, living) = reroute_without_buffers(&mut rig, emitter);
    rig.kill(living[1]);
    rig.engine.reroute();
    // Each of its 23 messages that is staged makes room for the one before; the last one waits.
    assert_eq!(rig.engine.counters.rerouted, 12 + 1 + 22);
    assert_eq!(rig.engine.buffers().0, 0);
    rig.release_all(dies);
    rig.engine.reroute();
    assert_eq!(rig.engine.counters.rerouted, 18 + 23);
    rig.finish();
}
