//! Emitters alone: what they send reaches the engine, or waits in order.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::context::{Context, Phase};
use crate::inputs::{InputReport, EMITTERS};
use crate::port::{Completion, Left};
use crate::testing::{context, context_of, receives, Asked, FakeIo};
use weir_engine::LaneId;
use weir_engine::{Entry, LinkEpoch, Reach, Reason, Roster, Sink, Window};
use weir_protocol::native::{EmitterBatch, EmitterHello, EmitterWord, EMITTER_DRAIN};

/// A frame of severity 3 with one byte of payload.
const FRAME: [u8; 6] = [0, 0, 0, 6, 3, b'x'];
const SECOND_NS: u64 = 1_000_000_000;

/// A batch of one frame.
fn batch(awaited: bool, first_sequence: u64) -> Vec<u8> {
    let header = EmitterBatch {
        resent: false,
        awaited,
        count: 1,
        body_bytes: FRAME.len() as u32,
        first_sequence,
    };
    [&header.encode()[..], &FRAME].concat()
}

struct Rig {
    cx: Context<FakeIo>,
    intake: Intake<FakeIo>,
}

/// An intake with one emitter, on socket 5.
fn rig() -> (Rig, Slot) {
    let mut rig = Rig {
        cx: context(1, 64),
        intake: Intake::new(1, vec![InputReport::default()]),
    };
    rig.intake.add(&mut rig.cx, EMITTERS, 5);
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

    /// The emitter greets; what it is told.
    fn greets(&mut self, slot: Slot) -> Vec<u8> {
        let mut hello = Vec::new();
        let said = EmitterHello {
            session: 9,
            id: "e1",
        };
        said.encode(&mut hello).expect("an id");
        self.receives(slot, &hello);
        self.intake.answer(&mut self.cx);
        match &self.cx.io.take_asked()[..] {
            [Asked::SendBytes(5, bytes)] => bytes.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// A batch of one message comes, and the analyzer ACKs it.
    fn batch(&mut self, slot: Slot, number: u64, awaited: bool) {
        self.receives(slot, &batch(awaited, number));
        let engine = &mut self.cx.engine;
        while engine.transmit(LaneId(0), 0, false).is_some() {}
        engine.acked(LaneId(0), 1, 0);
        self.intake.answer(&mut self.cx);
    }

    /// The send of answers that is under way ends.
    fn sent(&mut self, slot: Slot, result: i32) {
        let token = token(Kind::EmitterSend, slot);
        let completion = Completion::simulated(token, result, false, false);
        self.intake.on_answers_sent(&mut self.cx, slot, completion);
    }

    fn passes(&mut self, time: Duration) {
        let ns = time.as_nanos() as u64;
        self.cx.now_ns += ns;
        self.cx.awake_ns += ns;
        self.intake.answer(&mut self.cx);
        self.intake.look_at_answers(&mut self.cx);
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
        rig.intake.add(&mut rig.cx, EMITTERS, socket + 10);
    }
    assert_eq!(rig.cx.engine.counters.of(Reason::ConnectionLimit), 1);
    assert_eq!(rig.intake.connected(), rig.cx.config.connections_max);
    rig.ends(slot, 0);
    assert_eq!(rig.intake.connected(), rig.cx.config.connections_max - 1);
    rig.intake.add(&mut rig.cx, EMITTERS, 9);
    assert_eq!(rig.intake.connected(), rig.cx.config.connections_max);
}

#[test]
fn each_input_has_limits_and_counts_of_its_own() {
    let inputs = vec!["frames@127.0.0.1:1?max_connections=2&allow=0.0.0.0/0"
        .parse()
        .expect("an input")];
    let mut rig = Rig {
        cx: context_of(1, 64, |config| config.inputs = inputs),
        intake: Intake::new(1, vec![InputReport::default(); 2]),
    };
    for (input, socket) in [(EMITTERS, 5), (1, 6), (1, 7), (1, 8), (EMITTERS, 9)] {
        rig.intake.add(&mut rig.cx, input, socket);
    }
    rig.route();
    let slots = rig.intake.table.slots();
    assert_eq!(slots.len(), 4, "one was too many");
    rig.receives(slots[1], &FRAME);
    rig.receives(slots[1], b"\xff\xff\xff\xff");
    rig.ends(slots[1], 0);
    rig.ends(slots[2], 0);
    let [emitters, input] = &rig.intake.inputs(|_| 0)[..] else {
        panic!("two places")
    };
    assert_eq!((emitters.accepted, emitters.connections), (2, 2));
    assert_eq!((emitters.messages, &emitters.refused[..]), (0, &[][..]));
    assert_eq!((input.accepted, input.connections), (2, 0));
    assert_eq!((input.messages, input.bytes), (1, 6));
    let reasons = [
        (Reason::ConnectionLimit, 1),
        (Reason::FrameTooLong, 1),
        (Reason::Probe, 1),
    ];
    assert_eq!(input.refused, reasons);
    rig.intake.add(&mut rig.cx, 1, 10);
    assert_eq!(
        rig.intake.inputs(|_| 0)[1].connections,
        1,
        "there is room again"
    );
}

#[test]
fn who_comes_during_the_farewell_is_told_to_go_and_later_nobody_comes() {
    let (mut rig, _) = rig();
    rig.cx.phase = Phase::GracefulClose;
    rig.intake.add(&mut rig.cx, EMITTERS, 6);
    assert_eq!(
        rig.cx.io.take_asked(),
        [Asked::Receive(6), Asked::Shutdown(6)]
    );
    rig.cx.phase = Phase::Draining;
    rig.intake.add(&mut rig.cx, EMITTERS, 7);
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
        rig.intake.add(&mut rig.cx, EMITTERS, socket + 10);
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
        rig.intake.add(&mut rig.cx, EMITTERS, socket + 10);
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

fn ack(number: u64) -> Asked {
    Asked::SendBytes(5, EmitterWord::encode_ack(number).to_vec())
}

#[test]
fn acks_are_gathered_but_for_who_waits() {
    let (mut rig, slot) = rig();
    rig.route();
    let welcome = rig.greets(slot);
    rig.sent(slot, welcome.len() as i32);
    rig.batch(slot, 1, false);
    rig.batch(slot, 2, false);
    assert_eq!(rig.cx.io.take_asked(), [], "it does not wait");
    assert!(rig.intake.answers_due_ns() > rig.cx.now_ns);
    rig.passes(Duration::from_millis(10));
    assert_eq!(rig.cx.io.take_asked(), [ack(2)]);
    // While a send is under way nothing is written.
    rig.batch(slot, 3, true);
    rig.batch(slot, 4, true);
    assert_eq!(rig.cx.io.take_asked(), []);
    rig.sent(slot, 9);
    assert_eq!(rig.cx.io.take_asked(), [ack(4)]);
    rig.sent(slot, 4);
    let rest = EmitterWord::encode_ack(4)[4..].to_vec();
    assert_eq!(
        rig.cx.io.take_asked(),
        [Asked::SendBytes(5, rest)],
        "cut short"
    );
    rig.sent(slot, 5);
    rig.batch(slot, 5, true);
    assert_eq!(rig.cx.io.take_asked(), [ack(5)]);
}

#[test]
fn who_does_not_read_is_not_read_from_until_it_does() {
    let (mut rig, slot) = rig();
    rig.route();
    let welcome = rig.greets(slot);
    rig.passes(Duration::from_millis(999));
    assert_eq!(rig.cx.io.take_asked(), []);
    rig.passes(Duration::from_millis(1));
    let receive = token(Kind::EmitterReceive, slot);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Cancel(receive)]);
    rig.passes(Duration::from_secs(1));
    assert_eq!(rig.cx.engine.counters.of(Reason::AnswersNotRead), 1, "once");
    rig.ends(slot, -libc::ECANCELED);
    rig.intake.resume_pending(&mut rig.cx);
    assert_eq!(rig.cx.io.take_asked(), [], "it does not read");
    rig.sent(slot, welcome.len() as i32);
    rig.intake.resume_pending(&mut rig.cx);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Receive(5)]);
    // At a shutdown nobody waits for it.
    rig.batch(slot, 1, true);
    assert_eq!(rig.cx.io.take_asked(), [ack(1)]);
    rig.cx.phase = Phase::Draining;
    rig.passes(Duration::from_secs(1));
    rig.ends(slot, -libc::ECANCELED);
    rig.sent(slot, -libc::EPIPE);
    assert_eq!(rig.intake.table.len(), 0);
    assert_eq!(rig.intake.answered(), 0);
}

#[test]
fn who_has_ended_gets_its_acks_before_it_is_closed() {
    let (mut rig, slot) = rig();
    rig.route();
    let welcome = rig.greets(slot);
    rig.sent(slot, welcome.len() as i32);
    rig.receives(slot, &batch(false, 1));
    rig.ends(slot, 0);
    assert_eq!((rig.intake.connected(), rig.intake.unfinished()), (1, 0));
    while rig.cx.engine.transmit(LaneId(0), 0, false).is_some() {}
    rig.cx.engine.acked(LaneId(0), 1, 0);
    rig.passes(Duration::from_millis(0));
    rig.passes(Duration::from_millis(10));
    assert_eq!(rig.cx.io.take_asked(), [ack(1)]);
    assert_eq!(rig.intake.connected(), 1, "until it is sent");
    rig.sent(slot, 9);
    assert_eq!((rig.intake.connected(), rig.intake.table.len()), (0, 0));
}

#[test]
fn a_farewell_is_a_word_and_comes_behind_the_welcome() {
    let (mut rig, slot) = rig();
    rig.route();
    let mut hello = Vec::new();
    let said = EmitterHello {
        session: 9,
        id: "e1",
    };
    said.encode(&mut hello).expect("an id");
    rig.receives(slot, &hello);
    rig.cx.phase = Phase::GracefulClose;
    rig.intake.bid_farewell(&mut rig.cx, slot);
    let asked = rig.cx.io.take_asked();
    let [Asked::SendBytes(5, welcome)] = &asked[..] else {
        panic!("{asked:?}")
    };
    rig.sent(slot, welcome.len() as i32);
    assert_eq!(
        rig.cx.io.take_asked(),
        [Asked::SendBytes(5, EMITTER_DRAIN.to_vec())]
    );
}

#[test]
fn who_breaks_off_with_units_open_leaves_nothing_behind() {
    let (mut rig, slot) = rig();
    rig.route();
    rig.greets(slot);
    rig.ends(slot, -libc::ECONNRESET);
    assert_eq!(rig.intake.table.len(), 1, "its send has not ended");
    assert!(rig.cx.io.take_asked().contains(&Asked::Shutdown(5)));
    rig.sent(slot, -libc::EPIPE);
    assert_eq!((rig.intake.table.len(), rig.intake.answered()), (0, 0));
    assert!(!rig.cx.engine.is_answered(slot.index()));
}

#[test]
fn a_place_whose_deadline_acks_would_miss_is_not_read_from() {
    let input = "acked@127.0.0.1:1?deadline=1s".parse().expect("an input");
    let cx = context_of(1, 64, |config| config.inputs.push(input));
    let places = cx.shared.places().len();
    let intake = Intake::new(1, vec![InputReport::default(); places]);
    let mut rig = Rig { cx, intake };
    rig.route();
    for (place, socket) in [(EMITTERS, 5), (1, 6)] {
        rig.intake.add(&mut rig.cx, place, socket);
    }
    let slots = rig.intake.table.slots();
    rig.cx.io.take_asked();
    rig.receives(slots[0], &FRAME);
    while rig.cx.engine.transmit(LaneId(0), 0, false).is_some() {}
    let look = |rig: &mut Rig, ms: u64| {
        rig.cx.awake_ns += ms * 1_000_000;
        rig.intake.look_at_deadlines(&mut rig.cx);
        rig.intake.resume_pending(&mut rig.cx);
        rig.cx.io.take_asked()
    };
    assert_eq!(look(&mut rig, 100), []);
    assert_eq!(look(&mut rig, 249), [], "a quarter of its deadline");
    let receive = token(Kind::EmitterReceive, slots[1]);
    assert_eq!(look(&mut rig, 1), [Asked::Cancel(receive)]);
    let ended = Completion::simulated(receive, -libc::ECANCELED, false, false);
    rig.intake.on_receive(&mut rig.cx, slots[1], ended);
    rig.intake.add(&mut rig.cx, 1, 7);
    assert_eq!(look(&mut rig, 500), [], "who comes now waits as well");
    assert_eq!(rig.cx.engine.counters.of(Reason::AcksLate), 1);
    rig.cx.engine.acked(LaneId(0), 1, 0);
    look(&mut rig, 100);
    let all = look(&mut rig, 100);
    assert_eq!(all, [Asked::Receive(6), Asked::Receive(7)]);
}

#[test]
fn who_is_gone_while_it_is_held_gives_its_place_back() {
    let input = "acked@127.0.0.1:1?deadline=1s".parse().expect("an input");
    let cx = context_of(1, 64, |config| config.inputs.push(input));
    let places = cx.shared.places().len();
    let intake = Intake::new(1, vec![InputReport::default(); places]);
    let mut rig = Rig { cx, intake };
    rig.route();
    rig.intake.late[1] = true;
    for socket in [5, 6, 7] {
        rig.intake.add(&mut rig.cx, 1, socket);
    }
    let slots = rig.intake.table.slots();
    for slot in [slots[1], slots[2]] {
        rig.intake.say(&mut rig.cx, slot, |_, _| ());
    }
    let look = |rig: &mut Rig| {
        rig.cx.io.take_asked();
        rig.intake.check_frames(&mut rig.cx);
        rig.intake.resume_pending(&mut rig.cx);
        rig.cx.io.take_asked()
    };
    assert_eq!(look(&mut rig), [], "all of them are there");
    rig.cx.io.left.insert(6, Left::Nothing);
    rig.cx.io.left.insert(7, Left::Remains);
    assert_eq!(look(&mut rig), [Asked::Receive(6)], "to its end");
    assert_eq!(rig.intake.connected(), 2, "and of 7 nothing was ACKed");
    assert_eq!(rig.cx.engine.counters.of(Reason::ResetUnread), 1);
    rig.ends(slots[1], 0);
    assert_eq!(rig.intake.connected(), 1);
    assert_eq!(look(&mut rig), [], "5 waits on");
}

#[test]
fn who_is_held_is_not_late_with_its_frame() {
    let (mut rig, slot) = rig();
    rig.route();
    rig.greets(slot);
    rig.sent(slot, 1000);
    let batch = batch(true, 1);
    rig.receives(slot, &batch[..batch.len() - 3]);
    let limit_ns = rig.cx.config.frame_timeout.as_nanos() as u64;
    let after = |rig: &mut Rig, ns: u64| {
        rig.intake.begin_turn(&mut rig.cx, ns);
        rig.intake.check_frames(&mut rig.cx);
        rig.cx.engine.counters.of(Reason::FrameTimeout)
    };
    assert_eq!(after(&mut rig, limit_ns - SECOND_NS), 0);
    rig.intake.hold(&mut rig.cx, slot);
    for _ in 0..100 {
        assert_eq!(
            after(&mut rig, SECOND_NS),
            0,
            "nobody reads what may be there"
        );
    }
    rig.intake.go_on_reading(&mut rig.cx, slot);
    assert_eq!(after(&mut rig, limit_ns - SECOND_NS), 0);
    assert_eq!(after(&mut rig, SECOND_NS), 1, "read from again, it is");
}

#[test]
fn who_is_answered_leaves_when_it_has_its_answers() {
    let (mut rig, slot) = rig();
    rig.route();
    rig.greets(slot);
    rig.sent(slot, 1000);
    rig.cx.io.take_asked();
    rig.receives(slot, &batch(true, 1));
    rig.cx.io.take_asked();
    rig.intake.leave(&mut rig.cx, slot);
    let receive = token(Kind::EmitterReceive, slot);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Cancel(receive)]);
    rig.ends(slot, -libc::ECANCELED);
    while rig.cx.engine.transmit(LaneId(0), 0, false).is_some() {}
    rig.cx.engine.acked(LaneId(0), 1, 0);
    rig.intake.answer(&mut rig.cx);
    assert!(matches!(
        rig.cx.io.take_asked()[..],
        [Asked::SendBytes(5, _)]
    ));
    rig.sent(slot, 1000);
    assert_eq!(rig.cx.io.take_asked(), [Asked::Shutdown(5)]);
    rig.intake.resume_pending(&mut rig.cx);
    assert_eq!(
        rig.cx.io.take_asked(),
        [Asked::Receive(5)],
        "until it has closed"
    );
    rig.receives(slot, b"what nobody looks at");
    rig.ends(slot, 0);
    assert_eq!(rig.intake.table.len(), 0);
    assert_eq!(rig.received(), 1);
}
