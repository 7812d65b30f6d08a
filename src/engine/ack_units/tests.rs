use super::*;
use crate::{
    EngineConfig, Entry, Ingest, LinkEpoch, OnSlow, Port, Reach, Reason, Roster, Sink, VecMemory,
    Window as LinkWindow,
};
use weir_protocol::frame::encode_header;
use weir_protocol::native::{EmitterBatch, EmitterHello, EmitterWelcome, EmitterWord};
use weir_source::Protocols;

const GRANT_MAX: u32 = AckWindow::DEFAULT.units;
const GRANT_BYTES: u64 = AckWindow::DEFAULT.bytes;

const BUFFERS: u32 = 64;

/// One engine, native analyzers of equal weights, one emitter.
struct Rig {
    engine: Engine<VecMemory>,
    roster: Roster,
}

impl Rig {
    fn new(analyzers: u32) -> Rig {
        let config = EngineConfig {
            shard: 0,
            buffers: BUFFERS,
            buffer_bytes: 4096,
            frame_bytes_max: 1024,
            unit_bytes_max: 0,
            window_bytes: 1 << 20,
            window_messages: 10_000,
            partial_bytes_max: 10_000,
            on_slow: OnSlow::Spill,
        };
        let entry = |analyzer: u32| Entry {
            analyzer,
            name: analyzer.to_string().into(),
            weight: 1.0,
            draining: false,
            pinned: false,
            ejected: false,
            sink: Sink::Native,
            reach: Reach::LinkPerShard,
        };
        let roster = Roster {
            epoch: 1,
            entries: (0..analyzers).map(entry).collect(),
        };
        let memory = VecMemory::new(BUFFERS as usize, 4096);
        let mut rig = Rig {
            engine: Engine::new(config, memory),
            roster,
        };
        rig.follow(|analyzer| Some(LinkEpoch::new(0, u64::from(analyzer) + 1)));
        rig.engine.emitter_opened(0, &Port::emitters().into());
        rig.greet(0);
        rig
    }

    fn follow(&mut self, epoch: impl Fn(u32) -> Option<LinkEpoch>) {
        let link = |entry: &Entry| epoch(entry.analyzer).map(|epoch| (epoch, LinkWindow::ANY));
        assert!(self.engine.apply_roster(&self.roster, link));
        self.roster.epoch += 1;
    }

    fn greet(&mut self, emitter: usize) {
        let mut hello = Vec::new();
        let said = EmitterHello {
            session: 9,
            id: "e1",
        };
        said.encode(&mut hello).expect("an id");
        assert_eq!(self.engine.ingest(emitter, &hello), Ingest::Taken);
        assert_eq!(
            self.engine.next_urgent(),
            Some(emitter),
            "it waits for its WELCOME"
        );
        let mut out = Vec::new();
        self.engine.answer(emitter, 7, &mut out);
        let (welcome, _) = EmitterWelcome::decode(&out).expect("good").expect("whole");
        assert_eq!((welcome.refused, welcome.instance), (None, 7));
        assert!(welcome.window_batches + 8 >= GRANT_MAX);
        while self.engine.next_ripe().is_some() {}
    }

    fn send(&mut self, first: u64, count: u32, flags: u8) -> Ingest {
        self.engine.ingest(0, &batch(first, count, flags))
    }

    /// All lanes ACK so many messages of what they have been given, as far as they have that many.
    fn ack(&mut self, lane: u32, messages: u64) {
        while self.engine.transmit(LaneId(lane), 0, false).is_some() {}
        self.engine.acked(LaneId(lane), messages, 0);
        assert_eq!(self.engine.check(), Ok(()));
    }

    /// What the emitter is told.
    fn answers(&mut self) -> Option<u64> {
        let mut out = Vec::new();
        self.engine.answer(0, 7, &mut out);
        match EmitterWord::decode(&out).expect("a word") {
            Some((EmitterWord::Ack(sequence), used)) => {
                assert_eq!(used, out.len(), "one says it for all");
                Some(sequence)
            }
            None => None,
            other => panic!("{other:?}"),
        }
    }
}

fn batch(first: u64, count: u32, flags: u8) -> Vec<u8> {
    let frame = [&encode_header(3, 1)[..], b"abc"].concat();
    let header = EmitterBatch {
        resent: flags & 1 != 0,
        awaited: flags & 2 != 0,
        count,
        body_bytes: frame.len() as u32 * count,
        first_sequence: first,
    };
    [&header.encode()[..], &frame.repeat(count as usize)].concat()
}

#[test]
fn a_batch_is_answered_when_all_its_lanes_have_acked() {
    let mut rig = Rig::new(2);
    assert_eq!(rig.send(1, 4, 0), Ingest::Taken);
    assert_eq!(rig.send(5, 2, 0), Ingest::Taken);
    assert_eq!((rig.engine.units_open(0), rig.answers()), (2, None));
    rig.ack(0, 2);
    assert_eq!((rig.engine.next_ripe(), rig.answers()), (None, None));
    rig.ack(1, 3);
    assert_eq!(rig.engine.next_ripe(), Some(0));
    assert_eq!(rig.answers(), Some(4), "of the second one is open");
    rig.ack(0, 1);
    assert_eq!(rig.answers(), Some(6));
    assert_eq!(
        (rig.engine.units_open(0), rig.engine.units_open_of_all()),
        (0, 0)
    );
}

#[test]
fn answers_come_in_order_and_one_includes_those_before() {
    let mut rig = Rig::new(2);
    // One for each lane in turn: the second batch is through before the first.
    assert_eq!(rig.send(1, 1, 0), Ingest::Taken);
    assert_eq!(rig.send(2, 1, 0), Ingest::Taken);
    let lanes = rig.engine.lanes.iter();
    let second = lanes
        .clone()
        .position(|slot| slot.lane.appended() == 1 && slot.tickets.len() == 1);
    assert!(second.is_some() && lanes.clone().all(|slot| slot.lane.appended() == 1));
    let ticket = |rig: &Rig| {
        rig.engine
            .receipts
            .units
            .cells
            .iter()
            .position(|cell| cell.key == 2)
    };
    let index = ticket(&rig).expect("the second batch") as u64;
    let mut late = 0;
    for lane in 0..2 {
        let slot = &rig.engine.lanes[lane];
        late = match slot.tickets.first_ticket() & 0xffff_ffff == index {
            true => 1 - lane as u32,
            false => late,
        };
    }
    rig.ack(1 - late, 1);
    assert_eq!(rig.answers(), None, "the first is open");
    rig.ack(late, 1);
    assert_eq!(rig.answers(), Some(2));
}

#[test]
fn messages_that_move_to_another_lane_are_waited_for_there() {
    let mut rig = Rig::new(2);
    assert_eq!(rig.send(1, 10, 0), Ingest::Taken);
    rig.ack(0, 2);
    rig.ack(1, 5);
    assert_eq!(rig.answers(), None);
    rig.engine.link_down(LinkEpoch::new(0, 1), 0);
    rig.engine.reroute();
    assert_eq!((rig.answers(), rig.engine.check()), (None, Ok(())));
    rig.ack(1, 2);
    assert_eq!(rig.answers(), None);
    rig.ack(1, 1);
    assert_eq!(rig.answers(), Some(10));
}

#[test]
fn what_a_connection_had_open_when_it_went_disturbs_nobody_after_it() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.send(1, 3, 0), Ingest::Taken);
    rig.engine.emitter_closed(0);
    assert_eq!(
        (rig.engine.units_open(0), rig.engine.units_open_of_all()),
        (0, 0)
    );
    rig.engine.emitter_opened(0, &Port::emitters().into());
    rig.greet(0);
    assert_eq!(rig.send(1, 1, 0), Ingest::Taken);
    rig.ack(0, 3);
    assert_eq!(rig.answers(), None, "those were others");
    rig.ack(0, 1);
    assert_eq!(rig.answers(), Some(1));
    assert_eq!(rig.engine.receipts.units.granted, GRANT_MAX);
}

#[test]
fn an_awaited_batch_is_urgent_and_so_is_half_a_window() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.send(1, 1, 0), Ingest::Taken);
    rig.ack(0, 1);
    assert_eq!(
        (rig.engine.next_ripe(), rig.engine.next_urgent()),
        (Some(0), None)
    );
    assert_eq!(rig.send(2, 1, 2), Ingest::Taken);
    assert_eq!(rig.engine.next_urgent(), None, "nothing is through");
    rig.ack(0, 1);
    assert_eq!(
        (rig.engine.next_urgent(), rig.answers()),
        (Some(0), Some(2))
    );
    let half = u64::from(GRANT_MAX / 2);
    for sequence in 3..3 + half {
        assert_eq!(rig.send(sequence, 1, 0), Ingest::Taken);
    }
    rig.ack(0, half - 1);
    assert_eq!(rig.engine.next_urgent(), None);
    rig.ack(0, 1);
    assert_eq!(
        (rig.engine.next_urgent(), rig.answers()),
        (Some(0), Some(2 + half))
    );
}

#[test]
fn who_has_more_open_than_was_granted_is_refused() {
    let mut rig = Rig::new(1);
    for sequence in 1..=u64::from(GRANT_MAX) {
        assert_eq!(rig.send(sequence, 1, 0), Ingest::Taken);
    }
    let received = rig.engine.counters.received;
    let refused = rig.send(u64::from(GRANT_MAX) + 1, 1, 0);
    let Ingest::BadStream { error, reason, .. } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(reason, Reason::WindowExceeded);
    let allowed = format!("allowed {GRANT_MAX} batches and {GRANT_BYTES} bytes");
    assert!(error.to_string().contains(&allowed), "{error}");
    assert_eq!(
        rig.engine.counters.received, received,
        "nothing of it is taken in"
    );
}

#[test]
#[cfg_attr(miri, ignore = "as many as there may be take Miri an hour")]
fn the_more_is_granted_the_less_the_next_one_gets() {
    let mut units = AckUnits::default();
    let mut grants = Vec::new();
    for emitter in 0.. {
        match units.open(emitter, Protocol::Acked, AckMode::Acked) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, SourceError::UnitsFull { max: UNITS_MAX });
                break;
            }
        }
        let connection = units.connection(emitter).expect("it is open");
        grants.push(connection.facts.units_max);
    }
    assert!(grants.is_sorted_by(|a, b| a >= b) && grants.ends_with(&[1]));
    assert_eq!(grants.iter().sum::<u32>(), UNITS_MAX);
    assert!(grants.len() > 5000, "{}", grants.len());
    units.close(0, true);
    assert_eq!(units.open(0, Protocol::Acked, AckMode::Acked), Ok(()));
}

#[test]
fn what_was_sent_before_is_flagged_under_the_name_that_its_sender_gives_it() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.send(41, 2, 1), Ingest::Taken);
    assert_eq!(rig.send(43, 1, 0), Ingest::Taken);
    let counters = &rig.engine.counters;
    assert_eq!((counters.resent, counters.duplicates_possible), (2, 2));
    let mut wire = Vec::new();
    while let Some(range) = rig.engine.transmit(LaneId(0), 0, false) {
        wire.extend_from_slice(rig.engine.memory.read(range.span));
    }
    let header = |at: usize| {
        let bytes = wire[at..].first_chunk().expect("a header");
        weir_protocol::native::BatchHeader::decode(bytes).expect("good")
    };
    let first = header(0);
    assert!(first.redelivered && first.count == 2);
    assert_eq!((first.origin_shard, first.origin_epoch), (u16::MAX, 9));
    assert_eq!(wire[32..40], u64::to_be_bytes(41));
    let second = header(32 + first.body_bytes as usize);
    assert!(!second.redelivered && second.count == 1, "{second:?}");
}

#[test]
fn emitters_wait_when_lanes_may_note_no_more_tickets() {
    let mut rig = Rig::new(1);
    rig.engine.ranges_max = 2;
    assert_eq!(rig.send(1, 1, 0), Ingest::Taken);
    assert_eq!(rig.send(2, 1, 0), Ingest::Taken);
    assert!(matches!(rig.send(3, 1, 0), Ingest::Stalled { .. }));
    assert!(!rig.engine.can_ingest());
    rig.ack(0, 1);
    assert!(rig.engine.can_ingest());
}

#[test]
fn a_unit_that_is_not_whole_is_read_on_whatever_its_window() {
    let mut rig = Rig::new(1);
    // So much is granted that the next connection gets one unit.
    rig.engine.receipts.units.granted = UNITS_MAX - 1;
    let port = Port::new(Protocols::of(&[Protocol::Lumberjack]));
    rig.engine.emitter_opened(1, &port.into());
    let event = b"2J\0\0\0\x01\0\0\0\x02{}";
    let window = [&b"2W\0\0\0\x02"[..], event].concat();
    assert_eq!(rig.engine.ingest(1, &window), Ingest::Taken);
    assert_eq!(
        (rig.engine.units_open(1), rig.engine.is_above_window(1)),
        (1, false)
    );
    assert_eq!(rig.engine.ingest(1, event), Ingest::Taken);
    assert!(rig.engine.is_above_window(1), "whole, and not ACKed");
    rig.ack(0, 2);
    let mut out = Vec::new();
    rig.engine.answer(1, 7, &mut out);
    assert_eq!(
        (&out[..], rig.engine.is_above_window(1)),
        (&b"2A\0\0\0\x01"[..], false)
    );
}

const PLACE: u128 = 77;

impl Rig {
    /// One more emitter at an address.
    fn connects(&mut self, emitter: usize, address: u128) {
        self.engine
            .emitter_opened(emitter, &Port::emitters().into());
        self.greet(emitter);
        self.engine.emitter_is_at(emitter, address);
    }

    /// A unit that is called `name`, of so many elements.
    fn unit(&mut self, emitter: usize, name: u8, elements: u32) {
        let unit = UnitBegin {
            key: u64::from(name),
            elements: Elements::Exactly(elements),
            bytes: 10,
            is_awaited: true,
            join: Some([name; 16]),
        };
        assert_eq!(self.engine.unit_begins(emitter, unit), Ok(()));
        let ticket = self.engine.current_ticket(emitter);
        for _ in 0..elements {
            let element = weir_source::Element::Frame(&[0, 0, 0, 6, 3, b'x']);
            let routed = self.engine.route_of::<weir_source::Acked>(ticket, element);
            assert!(routed.is_ok());
        }
    }

    fn answer_of(&mut self, emitter: usize) -> Vec<u8> {
        let mut out = Vec::new();
        self.engine.answer(emitter, 7, &mut out);
        out
    }
}

fn ack_of(name: u8) -> Vec<u8> {
    EmitterWord::encode_ack(u64::from(name)).to_vec()
}

#[test]
fn a_unit_that_comes_again_joins_the_one_that_is_under_way() {
    for is_gone in [false, true] {
        let mut rig = Rig::new(1);
        (1..4).for_each(|emitter| rig.connects(emitter, PLACE));
        rig.unit(1, 9, 3);
        match is_gone {
            true => rig.engine.emitter_closed(1),
            false => assert_eq!(rig.engine.emitter_ended(1), Ingest::Taken),
        }
        rig.unit(2, 9, 3);
        rig.unit(3, 9, 3);
        rig.engine.emitter_closed(3);
        let counters = &rig.engine.counters;
        assert_eq!((counters.received, counters.joined), (3, 6));
        rig.ack(0, 2);
        assert!(rig.answer_of(2).is_empty());
        rig.ack(0, 1);
        assert_eq!(rig.answer_of(2), ack_of(9));
        let first = if is_gone { Vec::new() } else { ack_of(9) };
        assert_eq!(rig.answer_of(1), first);
        assert_eq!(rig.engine.units_open_of_all(), 0, "nothing is left of it");
        rig.unit(2, 9, 3);
        assert_eq!(rig.engine.counters.received, 6, "it is another one now");
        assert_eq!(rig.engine.check(), Ok(()));
    }
}

#[test]
fn nobody_joins_a_unit_that_may_be_somebody_elses_or_is_only_received() {
    let mut rig = Rig::new(1);
    for (emitter, address) in [(1, PLACE), (2, PLACE + 1), (3, 0), (4, 0)] {
        rig.connects(emitter, address);
        rig.unit(emitter, 9, 2);
        assert_eq!(rig.engine.emitter_ended(emitter), Ingest::Taken);
    }
    for emitter in 7..9 {
        rig.connects(emitter, PLACE + 2);
        rig.unit(emitter, 9, 2); // the first is still there
    }
    let port = Port {
        ack: AckMode::Received,
        ..Port::emitters()
    };
    let port = port.into();
    for emitter in 5..7 {
        rig.engine.emitter_opened(emitter, &port);
        rig.greet(emitter);
        rig.engine.emitter_is_at(emitter, PLACE);
        rig.unit(emitter, 9, 2);
        assert_eq!(rig.answer_of(emitter), ack_of(9), "as soon as it is there");
        while rig.engine.next_urgent().is_some() {}
    }
    assert_eq!(rig.engine.counters.received, 16);
    assert_eq!(rig.engine.counters.joined, 0);
}

#[test]
fn a_unit_of_untold_elements_is_done_when_it_has_ended() {
    let mut rig = Rig::new(1);
    let unit = UnitBegin {
        key: 5,
        elements: Elements::UntilEnd,
        bytes: 10,
        is_awaited: true,
        join: None,
    };
    assert_eq!(rig.engine.unit_begins(0, unit), Ok(()));
    let ticket = rig.engine.current_ticket(0);
    for _ in 0..3 {
        let element = weir_source::Element::Frame(&[0, 0, 0, 6, 3, b'x']);
        assert!(rig
            .engine
            .route_of::<weir_source::Acked>(ticket, element)
            .is_ok());
    }
    rig.ack(0, 2);
    assert!(rig.answer_of(0).is_empty());
    rig.engine.unit_ends(0, 3);
    assert!(rig.answer_of(0).is_empty());
    rig.ack(0, 1);
    assert_eq!(rig.answer_of(0), ack_of(5));
    assert_eq!(rig.engine.current_ticket(0), NONE);
}

#[test]
fn what_is_presumed_is_answered_and_stays_un_acked() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.send(1, 3, 2), Ingest::Taken);
    while rig.engine.transmit(LaneId(0), 0, false).is_some() {}
    rig.engine.presumed(LaneId(0), 2);
    assert_eq!(rig.answers(), None);
    assert_eq!(rig.engine.ack_pace_ns(0), 0);
    assert_eq!(rig.engine.ack_pace_ns(100), 100);
    rig.engine.presumed(LaneId(0), 3);
    assert_eq!(rig.answers(), Some(3));
    let later = [200, 300, 100_000].map(|now_ns| rig.engine.ack_pace_ns(now_ns));
    assert_eq!(
        later,
        [100, 0, 0],
        "a remainder that stays un-ACKed keeps nobody waiting"
    );
    let counters = &rig.engine.counters;
    assert_eq!((counters.acked, counters.presumed), (0, 5));
    assert_eq!(rig.engine.check(), Ok(()));
    rig.ack(0, 3);
    assert_eq!(rig.engine.counters.acked, 3);
}
