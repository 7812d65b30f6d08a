//! Emitters alone: what they send reaches the engine, or waits in order.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::context::{Context, Phase};
use crate::port::Completion;
use crate::testing::{context, receives, Asked, FakeIo};
use weir_engine::{Entry, LinkEpoch, Reach, Reason, Roster, Sink, Window};

/// A frame of severity 3 with one byte of payload.
const FRAME: [u8; 6] = [0, 0, 0, 6, 3, b'x'];
const SECOND_NS: u64 = 1_000_000_000;

struct Rig {
    cx: Context<FakeIo>,
    intake: Intake<FakeIo>,
}

/// An intake with one emitter, on socket 5.
fn rig() -> (Rig, Slot) {
    let mut rig = Rig {
        cx: context(1, 64),
        intake: Intake::new(1),
    };
    rig.intake.add(&mut rig.cx, 5);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Receive(5)]);
    let slot = rig.intake.table.slots()[0];
    (rig, slot)
}

impl Rig {
    fn receives(&mut self, slot: Slot, bytes: &[u8]) {
        let token = token(Kind::EmitterReceive, slot);
        let completion = receives(token, bytes, &mut self.cx.io);
        self.intake.on_receive(&mut self.cx, slot, completion);
    }

    fn ends(&mut self, slot: Slot, result: i32) {
        let token = token(Kind::EmitterReceive, slot);
        let completion = Completion::simulated(token, result, false, false);
        self.intake.on_receive(&mut self.cx, slot, completion);
    }

    /// An analyzer is there from now on.
    fn route(&mut self) {
        let entry = Entry {
            analyzer: 1,
            name: "a".into(),
            weight: 1.0,
            draining: false,
            pinned: false,
            ejected: false,
            sink: Sink::Native,
            reach: Reach::LinkPerShard,
        };
        let roster = Roster {
            epoch: self.cx.engine.roster_epoch() + 1,
            entries: vec![entry],
        };
        let link = LinkEpoch::new(0, 1);
        let applied = self
            .cx
            .engine
            .apply_roster(&roster, |_| Some((link, Window::ANY)));
        assert!(applied);
    }

    fn received(&self) -> u64 {
        self.cx.engine.counters.received
    }
}

#[test]
fn what_nobody_can_take_waits_with_its_memory_and_is_taken_in_order() {
    let (mut rig, slot) = rig();
    rig.receives(slot, &FRAME);
    rig.receives(slot, &FRAME);
    assert_eq!((rig.received(), rig.cx.io.lent), (0, 2));
    assert_eq!(rig.intake.pending_bytes(), 2 * FRAME.len() as u64);
    rig.intake.resume_pending(&mut rig.cx);
    assert!(rig.intake.is_stalled() && rig.intake.remains());
    rig.ends(slot, -libc::ENOBUFS);
    assert_eq!(rig.cx.io.take_asked(), [], "not while something waits");
    rig.route();
    rig.intake.resume_pending(&mut rig.cx);
    assert_eq!((rig.received(), rig.cx.io.lent), (2, 0));
    assert!(!rig.intake.is_stalled());
    assert_eq!(rig.cx.engine.counters.stalls, 1);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Receive(5)], "read on");
}

#[test]
fn an_emitter_that_has_gone_is_kept_until_its_last_bytes_are_taken() {
    let (mut rig, slot) = rig();
    rig.receives(slot, &FRAME);
    rig.ends(slot, 0);
    assert_eq!((rig.intake.connected(), rig.intake.table.len()), (0, 1));
    rig.route();
    rig.intake.resume_pending(&mut rig.cx);
    assert_eq!((rig.received(), rig.intake.table.len()), (1, 0));
    assert!(!rig.intake.remains());
    assert_eq!(rig.cx.engine.counters.of(Reason::Probe), 0);
}

#[test]
fn who_sends_no_frames_is_rejected_and_nothing_more_is_read_from_him() {
    let (mut rig, slot) = rig();
    rig.route();
    rig.receives(slot, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(rig.cx.engine.counters.of(Reason::ForeignProtocol), 1);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Shutdown(5)]);
    rig.receives(slot, &FRAME);
    assert_eq!((rig.received(), rig.cx.io.lent), (0, 0));
    rig.ends(slot, 0);
    assert_eq!(rig.intake.table.len(), 0);
}

#[test]
fn places_are_bounded_and_given_back() {
    let (mut rig, slot) = rig();
    for socket in 1..=rig.cx.config.connections_max as u32 {
        rig.intake.add(&mut rig.cx, socket + 10);
    }
    assert_eq!(rig.cx.engine.counters.of(Reason::ConnectionLimit), 1);
    assert_eq!(rig.intake.connected(), rig.cx.config.connections_max);
    rig.ends(slot, 0);
    assert_eq!(rig.intake.connected(), rig.cx.config.connections_max - 1);
    rig.intake.add(&mut rig.cx, 9);
    assert_eq!(rig.intake.connected(), rig.cx.config.connections_max);
}

#[test]
fn who_comes_during_the_farewell_is_told_to_go_and_later_nobody_comes() {
    let (mut rig, _) = rig();
    rig.cx.phase = Phase::GracefulClose;
    rig.intake.add(&mut rig.cx, 6);
    assert_eq!(
        rig.cx.io.take_asked(),
        [Asked::Receive(6), Asked::Shutdown(6)]
    );
    rig.cx.phase = Phase::Draining;
    rig.intake.add(&mut rig.cx, 7);
    assert_eq!(rig.intake.connected(), 2);
}

fn with_age(cx: &mut Context<FakeIo>, seconds: u64) {
    let mut live = (*cx.live).clone();
    live.max_connection_age = Duration::from_secs(seconds);
    cx.live = Arc::new(live);
}

#[test]
fn at_its_age_an_emitter_is_asked_to_go_once_and_is_read_on() {
    let (mut rig, slot) = rig();
    rig.route();
    rig.cx.awake_ns += 3600 * SECOND_NS;
    rig.intake.look_at_ages(&mut rig.cx);
    assert_eq!(rig.cx.io.take_asked(), [], "ages are off");
    with_age(&mut rig.cx, 4001);
    rig.intake.look_at_ages(&mut rig.cx);
    assert_eq!(rig.cx.io.take_asked(), [], "it is younger");
    rig.cx.awake_ns += 801 * SECOND_NS;
    rig.intake.look_at_ages(&mut rig.cx);
    rig.intake.look_at_ages(&mut rig.cx);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Shutdown(5)]);
    let counters = &rig.cx.engine.counters;
    assert_eq!((counters.farewells, counters.farewells_at_age), (1, 1));
    rig.receives(slot, &FRAME);
    assert_eq!((rig.received(), rig.intake.connected()), (1, 1), "read on");
    rig.intake.begin_farewells(&mut rig.cx, Duration::ZERO);
    assert_eq!(rig.cx.engine.counters.farewells, 1, "it has been asked");
}

#[test]
fn of_a_crowd_each_is_looked_at_within_ten_looks() {
    let (mut rig, _) = rig();
    rig.cx.config = Arc::new(weir_config::Config {
        connections_max: 20_000,
        ..(*rig.cx.config).clone()
    });
    for socket in 1..15_000 {
        rig.intake.add(&mut rig.cx, socket + 10);
    }
    with_age(&mut rig.cx, 1);
    rig.cx.awake_ns += 2 * SECOND_NS;
    let mut asked = Vec::new();
    for _ in 0..10 {
        let before = rig.cx.engine.counters.farewells;
        rig.intake.look_at_ages(&mut rig.cx);
        asked.push(rig.cx.engine.counters.farewells - before);
    }
    assert_eq!(asked, [1500; 10]);
}

#[test]
fn farewells_go_round_evenly() {
    let (mut rig, _) = rig();
    for socket in 1..10 {
        rig.intake.add(&mut rig.cx, socket + 10);
    }
    rig.cx.phase = Phase::GracefulClose;
    rig.cx.io.take_asked();
    let time = Duration::from_secs(1);
    rig.intake.begin_farewells(&mut rig.cx, time);
    let mut asked = Vec::new();
    for _ in 0..11 {
        asked.push(rig.cx.io.take_asked().len());
        rig.cx.awake_ns += SECOND_NS / 10;
        rig.intake.go_on_with_farewells(&mut rig.cx);
    }
    assert_eq!(asked, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
    assert_eq!(rig.cx.engine.counters.farewells, 10);
}
