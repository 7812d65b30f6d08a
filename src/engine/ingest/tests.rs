use super::*;
use crate::{EngineConfig, Entry, LinkEpoch, OnSlow, Reach, Roster, VecMemory, Window};
use weir_protocol::frame::encode_header;
use weir_protocol::record::Record;

/// One analyzer, reached so.
fn engine(reach: Reach) -> Engine<VecMemory> {
    let config = EngineConfig {
        shard: 0,
        buffers: 32,
        buffer_bytes: 4096,
        frame_bytes_max: 8192,
        unit_bytes_max: 0,
        window_bytes: 1 << 20,
        window_messages: 100,
        partial_bytes_max: 100_000,
        on_slow: OnSlow::Spill,
    };
    let mut engine = Engine::new(config, VecMemory::new(32, 4096));
    let roster = Roster {
        epoch: 1,
        entries: vec![Entry {
            analyzer: 0,
            name: "a".into(),
            weight: 1.0,
            draining: false,
            pinned: false,
            ejected: false,
            sink: reach.a_sink(),
            reach,
        }],
    };
    let link = (LinkEpoch::new(0, 1), Window::ANY);
    assert!(engine.apply_roster(&roster, |_| Some(link)));
    engine
}

fn sent(engine: &mut Engine<VecMemory>) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(range) = engine.transmit(LaneId(0), 0, false) {
        out.extend_from_slice(engine.memory.read(range.span));
    }
    out
}

/// The analyzer takes and ACKs all that there is.
fn drain(engine: &mut Engine<VecMemory>) {
    while let Some(range) = engine.transmit(LaneId(0), 0, false) {
        engine.acked(LaneId(0), range.messages, 0);
    }
}

/// The short one goes behind the tail, the others open a buffer, or take several.
const SIZES: [usize; 4] = [7, 10, 4000, 6000];

#[test]
fn a_payload_becomes_a_frame_and_its_form_is_noted() {
    let home = Reach::SingleLink {
        home: 0,
        epoch: LinkEpoch::new(0, 1),
    };
    let mut engine = engine(home);
    let mut expected = Vec::new();
    for (form, len) in [Form::Json, Form::Raw]
        .into_iter()
        .zip(SIZES)
        .cycle()
        .take(6)
    {
        let bytes = vec![b'j'; len];
        let (severity, bytes) = (4, &bytes[..]);
        let element = Element::Payload {
            severity,
            form,
            bytes,
        };
        assert!(engine.route(element).is_ok());
        expected.extend_from_slice(&encode_header(len as u32, severity));
        expected.extend_from_slice(bytes);
    }
    for bytes in SIZES.map(|len| vec![b'r'; len]) {
        let frame = [&encode_header(bytes.len() as u32, 1)[..], &bytes].concat();
        assert!(engine.route(Element::Frame(&frame)).is_ok());
        expected.extend_from_slice(&frame);
    }
    assert_eq!(engine.counters.received_bytes, expected.len() as u64);
    assert!(sent(&mut engine) == expected, "frames, in order");
    let forms: Vec<Form> = (1..=10)
        .map(|message| engine.lanes[0].forms.of(message))
        .collect();
    let (json, raw) = (Form::Json, Form::Raw);
    assert_eq!(forms, [json, raw, json, raw, json, raw, raw, raw, raw, raw]);
    assert_eq!(engine.check(), Ok(()));
}

#[test]
fn a_lane_of_records_says_the_form_of_each() {
    let mut engine = engine(Reach::Http { generation: 1 });
    let big = vec![b'{'; 6000];
    let payloads = [
        (Form::Json, &b"{}"[..]),
        (Form::Raw, b"text"),
        (Form::Json, &big),
    ];
    for (form, bytes) in payloads {
        let element = Element::Payload {
            severity: 3,
            form,
            bytes,
        };
        assert!(engine.route(element).is_ok());
    }
    let out = sent(&mut engine);
    let mut rest = &out[..];
    for (form, bytes) in payloads {
        let (record, after) = Record::parse(rest).expect("a record");
        let frame = record.frame().expect("of one frame");
        assert_eq!((record.form(), &frame[5..]), (form, bytes));
        rest = after;
    }
    assert!(rest.is_empty());
    assert_eq!(engine.forms_kept, 0, "the records say it");
}

/// What one Lumberjack sender sends: a window of so many events, compressed.
fn compressed_window(events: u32) -> Vec<u8> {
    let json = format!("{{\"m\":\"{}\"}}", "x".repeat(200));
    let mut inside = Vec::new();
    for number in 1..=events {
        inside.extend_from_slice(b"2J");
        inside.extend_from_slice(&number.to_be_bytes());
        inside.extend_from_slice(&(json.len() as u32).to_be_bytes());
        inside.extend_from_slice(json.as_bytes());
    }
    let packed = weir_testkit::pack::deflated(&inside, true);
    let mut out = b"2W".to_vec();
    out.extend_from_slice(&events.to_be_bytes());
    out.extend_from_slice(b"2C");
    out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
    out.extend_from_slice(&packed);
    out
}

#[test]
#[cfg_attr(miri, ignore = "thousands of events take Miri an hour")]
fn what_was_unpacked_waits_for_lanes_and_all_of_it_goes_once() {
    let mut engine = engine(Reach::LinkPerShard);
    let port = Port::new(weir_source::Protocols::of(&[Protocol::Lumberjack]));
    engine.emitter_opened(0, &port.into());
    const EVENTS: u32 = 2000;
    let window = compressed_window(EVENTS);
    for cut in [window.len(), window.len() / 2] {
        let before = engine.counters.received;
        let (first, second) = window.split_at(cut);
        let mut offered = [first, second].into_iter().filter(|part| !part.is_empty());
        let mut rest = offered.next().expect("some bytes");
        let mut stalls = 0;
        loop {
            match engine.ingest(0, rest) {
                Ingest::Taken => match offered.next() {
                    Some(part) => rest = part,
                    None => break,
                },
                Ingest::Stalled { taken } => {
                    rest = &rest[taken..];
                    stalls += 1;
                    assert!(stalls < 1000, "nothing moves");
                    drain(&mut engine);
                }
                Ingest::Held { is_queued } => {
                    rest = &[];
                    assert!(!is_queued, "nobody else has anything packed");
                    engine.begin_turn();
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(engine.check(), Ok(()));
        }
        assert!(stalls > 3, "{stalls} stalls are too few to show anything");
        assert_eq!(engine.counters.received - before, u64::from(EVENTS));
    }
}

#[test]
fn a_line_that_the_end_of_its_stream_completes_waits_for_a_lane() {
    let mut engine = engine(Reach::LinkPerShard);
    let port = Port::new(weir_source::Protocols::of(&[Protocol::Syslog]));
    let port = port.into();
    engine.emitter_opened(0, &port);
    assert_eq!(engine.ingest(0, b"<13>one\n<13>two"), Ingest::Taken);
    assert_eq!(engine.counters.received, 1);
    let big = [&b"<13>"[..], &[b'x'; 7000], b"\n"].concat();
    engine.emitter_opened(1, &port);
    while engine.ingest(1, &big) == Ingest::Taken {}
    assert_eq!(engine.emitter_ended(0), Ingest::Stalled { taken: 0 });
    let before = engine.counters.received;
    drain(&mut engine);
    assert_eq!(engine.emitter_ended(0), Ingest::Taken);
    assert_eq!(
        engine.emitter_ended(0),
        Ingest::Taken,
        "there is nothing left"
    );
    assert_eq!(engine.counters.received - before, 1);
    engine.emitter_closed(0);
    assert_eq!(engine.counters.of(Reason::FrameCutOff), 0);
}

/// A connection, and what it has not got rid of.
struct Sender {
    emitter: usize,
    rest: Vec<u8>,
}

impl Sender {
    fn new(engine: &mut Engine<VecMemory>, emitter: usize, sent: Vec<u8>) -> Sender {
        let port = Port::new(weir_source::Protocols::of(&[Protocol::Lumberjack]));
        engine.emitter_opened(emitter, &port.into());
        let rest = sent;
        Sender { emitter, rest }
    }

    /// As far as it goes in this turn: whether it is held, and queued.
    fn offer(&mut self, engine: &mut Engine<VecMemory>) -> (bool, bool) {
        loop {
            let (taken, held) = match engine.ingest(self.emitter, &self.rest) {
                Ingest::Taken => (self.rest.len(), Some((false, false))),
                Ingest::Held { is_queued } => (self.rest.len(), Some((true, is_queued))),
                Ingest::Stalled { taken } => (taken, None),
                other => panic!("{other:?}"),
            };
            self.rest.drain(..taken);
            drain(engine);
            assert_eq!(engine.check(), Ok(()));
            if let Some(held) = held {
                return held;
            }
        }
    }
}

const HELD: (bool, bool) = (true, false);
const QUEUED: (bool, bool) = (true, true);
const DONE: (bool, bool) = (false, false);

#[test]
#[cfg_attr(miri, ignore = "thousands of events take Miri an hour")]
fn a_large_part_takes_turns_and_others_go_on() {
    let mut engine = engine(Reach::LinkPerShard);
    const LARGE: u32 = 6000;
    let mut large = Sender::new(&mut engine, 0, compressed_window(LARGE));
    let mut small = Sender::new(&mut engine, 1, Vec::new());
    let mut other = Sender::new(&mut engine, 2, compressed_window(LARGE));
    assert_eq!(large.offer(&mut engine), HELD);
    assert_eq!(other.offer(&mut engine), HELD, "no work is left");
    let (mut turns, mut received) = (1, 0);
    loop {
        engine.begin_turn();
        small.rest = compressed_window(20);
        assert_eq!(small.offer(&mut engine), DONE, "beside the large one");
        assert_eq!(engine.counters.received - received, 20);
        received = engine.counters.received;
        assert!(engine.is_unpacking());
        assert_eq!(other.offer(&mut engine), QUEUED, "one large part is there");
        assert_eq!(engine.counters.received, received);
        let held = large.offer(&mut engine);
        let took = engine.counters.received - received;
        assert!(took <= 600, "{took} of more than 400 bytes of work each");
        received = engine.counters.received;
        turns += 1;
        if held == DONE {
            break;
        }
    }
    // 1.3 MiB out, and again, and 256 bytes for each.
    assert!((12..40).contains(&turns), "{turns} turns");
    assert_eq!(received, u64::from(LARGE) + 20 * (turns - 1));
    assert!(!engine.is_unpacking() && !engine.has_turn(), "others first");
    engine.begin_turn();
    assert_eq!(other.offer(&mut engine), HELD);
    engine.emitter_closed(2);
    assert!(!engine.is_unpacking(), "what it had is gone with it");
}

#[test]
fn a_bomb_is_refused_after_some_turns_and_holds_up_nobody_behind_it() {
    let mut engine = engine(Reach::LinkPerShard);
    let packed = weir_testkit::pack::deflated(&vec![0; 17 << 20], true);
    let mut bomb = b"2W\0\0\0\x012C".to_vec();
    bomb.extend_from_slice(&(packed.len() as u32).to_be_bytes());
    bomb.extend_from_slice(&packed);
    let port = Port::new(weir_source::Protocols::of(&[Protocol::Lumberjack]));
    engine.emitter_opened(0, &port.into());
    let mut turns = 0;
    let reason = loop {
        match engine.ingest(0, &bomb) {
            Ingest::Held { .. } => bomb.clear(),
            Ingest::BadStream { reason, .. } => break reason,
            other => panic!("{other:?}"),
        }
        engine.begin_turn();
        turns += 1;
    };
    assert_eq!(reason, Reason::PackedTooLarge);
    assert!((64..80).contains(&turns), "16 MiB, 256 KiB each: {turns}");
    assert!(!engine.is_unpacking());
}

#[test]
#[cfg_attr(miri, ignore = "thousands of entries take Miri an hour")]
fn a_unit_that_was_held_whole_takes_turns() {
    let mut engine = engine(Reach::LinkPerShard);
    const ENTRIES: usize = 30_000;
    let mut chunk = b"\x93\xa1t\xdc".to_vec();
    chunk.extend_from_slice(&(ENTRIES as u16).to_be_bytes());
    chunk.extend_from_slice(&b"\x92\x00\x80".repeat(ENTRIES));
    chunk.extend_from_slice(b"\x81\xa5chunk\xa1x");
    let port = Port::new(weir_source::Protocols::of(&[Protocol::Forward]));
    engine.emitter_opened(0, &port.into());
    let (first, rest) = chunk.split_at(1000);
    assert_eq!(engine.ingest(0, first), Ingest::Taken, "and carried");
    let (mut rest, mut turns) = (rest, 0);
    loop {
        match engine.ingest(0, rest) {
            Ingest::Taken => break,
            Ingest::Held { .. } => {
                rest = &[];
                engine.begin_turn();
                turns += 1;
            }
            Ingest::Stalled { taken } => rest = &rest[taken..],
            other => panic!("{other:?}"),
        }
        drain(&mut engine);
    }
    assert_eq!(engine.counters.received, ENTRIES as u64);
    assert!((6..10).contains(&turns), "{turns}");
    assert_eq!(engine.check(), Ok(()));
}
