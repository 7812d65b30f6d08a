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
                    while let Some(range) = engine.transmit(LaneId(0), 0, false) {
                        engine.acked(LaneId(0), range.messages, 0);
                    }
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
    while let Some(range) = engine.transmit(LaneId(0), 0, false) {
        engine.acked(LaneId(0), range.messages, 0);
    }
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
