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
        partial_bytes_max: 1000,
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
