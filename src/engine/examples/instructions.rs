//! Pieces of the hot path, run a given number of times, for `scripts/instructions.sh` to count their
//! instructions under callgrind: `instructions <piece> <messages>`. Counting n and 2n messages and
//! taking the difference leaves start-up out.
//!
//! ```text
//! frame      length words of 64 frames of 256 B in a chunk
//! tree-n     one choice among n analyzers
//! ingest     frame, choice, copy into the batch; nothing is ever sent
//! cycle      the same, and each batch of 64: transmitted, written, released, ACKed
//! compact    the same towards reference clients: no batch headers
//! syslog     cycle with lines of syslog of 256 B
//! counted    cycle with counted messages of syslog
//! acked      cycle with an emitter that wants ACKs: batches of 64, each of them answered
//! lumberjack the same with windows of 64 events of Lumberjack, whose level is looked for and is not there
//! relp       the same with 64 messages of RELP, each of them answered
//! forward    the same with packed chunks of 256 entries of Fluent Forward, each of them answered, rendered as JSON
//! bulk       bodies of `_bulk` made of 64 records of text of 256 B; otlp, loki, ndjson: the same in those formats
//! to-forward chunks of 64 records of the same text for a server of Forward, and its acks; to-lumberjack, to-relp
//! ack        64 ACKs in a read: words, the link's numbers, what its shard is owed
//! copy       256 B into memory: what of `ingest` is the copy itself
//! ```

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use weir_engine::tree::{Tree, UnitSize};
use weir_engine::Port;
use weir_engine::{
    BufferId, Engine, EngineConfig, Entry, Ingest, Link, LinkEpoch, Memory, OnSlow, Reach, Roster,
    Sink, VecMemory, Window,
};
use weir_protocol::frame;
use weir_protocol::native::{EmitterBatch, EmitterHello, EMITTER_ACK_BYTES, EMITTER_BATCH_BYTES};
use weir_protocol::record::{wrap_frame, Record};
use weir_protocol::Form;
use weir_sink::outlet::{Heard, Identity, Message, Outlet, OutletOptions, Pushed, Stamp};
use weir_sink::request::{Body, Context, Format, MessageId, Moment, RequestOptions};
use weir_sink::Control;
use weir_source::{Protocol, Protocols};

const FRAME_LEN: usize = 256;
const FRAMES: usize = 64;
/// Entries of a chunk of Fluent Forward: 64 KiB.
const ENTRIES: usize = 256;
/// Most that one segment of the loopback interface has.
const SEGMENT_BYTES: usize = 65_483;
const BUFFER_LEN: u32 = 128 * 1024;
/// Holds all that `ingest` may be asked for.
const BUFFERS: u32 = 1024;
const MESSAGES_MAX: usize = 200_000;
const WEIGHTS: [f64; 4] = [0.4, 0.3, 0.2, 0.1];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let messages = args.get(2).and_then(|n| n.parse().ok()).unwrap_or(0);
    if !(FRAMES..=MESSAGES_MAX).contains(&messages) {
        eprintln!("instructions PIECE MESSAGES: allowed are {FRAMES} to {MESSAGES_MAX} messages");
        return ExitCode::from(2);
    }
    match args[1].as_str() {
        "frame" => frames(messages),
        "tree-4" => choices(4, messages),
        "tree-64" => choices(64, messages),
        "tree-1000" => choices(1000, messages),
        "ingest" => pass(messages, true, false),
        "cycle" => pass(messages, true, true),
        "compact" => pass(messages, false, true),
        "syslog" => syslog(messages, false),
        "counted" => syslog(messages, true),
        "acked" => acked(messages),
        "lumberjack" => shipper(messages / FRAMES, Protocol::Lumberjack, &window()),
        "relp" => shipper(messages / FRAMES, Protocol::Relp, &messages_of_relp()),
        "forward" => shipper(messages / ENTRIES, Protocol::Forward, &packed_chunk()),
        "ack" => acks(messages),
        "bulk" => requests(Format::Bulk, messages),
        "otlp" => requests(Format::Otlp, messages),
        "loki" => requests(Format::Loki, messages),
        "ndjson" => requests(Format::Lines, messages),
        "to-forward" => packets(Sink::Forward, messages),
        "to-lumberjack" => packets(Sink::Lumberjack, messages),
        "to-relp" => packets(Sink::Relp, messages),
        "copy" => copies(messages),
        other => {
            eprintln!(
                "unknown piece '{other}': frame tree-4 tree-64 tree-1000 ingest cycle compact syslog counted acked lumberjack relp forward bulk otlp loki ndjson to-forward to-lumberjack to-relp ack copy"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn chunk() -> Vec<u8> {
    let payload = FRAME_LEN as u32 - frame::FRAME_HEADER_BYTES;
    let mut one = frame::encode_header(payload, 3).to_vec();
    one.resize(FRAME_LEN, b'x');
    one.repeat(FRAMES)
}

fn frames(messages: usize) {
    let chunk = chunk();
    for _ in 0..messages / FRAMES {
        let mut rest = black_box(&chunk[..]);
        while let Ok(Some(len)) = frame::peek(rest, frame::FRAME_BYTES_MAX_DEFAULT) {
            rest = &rest[len..];
        }
        black_box(rest.len());
    }
}

fn choices(leaves: u32, messages: usize) {
    let mut tree = Tree::new(0);
    let table: Vec<(u32, f64)> = (0..leaves).map(|n| (n, WEIGHTS[n as usize % 4])).collect();
    tree.set_weights(&table);
    for _ in 0..messages {
        black_box(tree.route(UnitSize::ONE));
    }
}

fn copies(messages: usize) {
    let mut memory = VecMemory::new(BUFFERS as usize, BUFFER_LEN as usize);
    let chunk = chunk();
    let slots = BUFFER_LEN as usize / FRAME_LEN;
    for n in 0..messages {
        let at = (n % slots * FRAME_LEN) as u32;
        memory.write(BufferId(0), at, black_box(&chunk[..FRAME_LEN]));
    }
}

/// An analyzer that ACKs each message, and is read each 64.
fn acks(messages: usize) {
    let mut link = Link::new(Sink::Compact, 0);
    let mut words = [0; 4 * FRAMES];
    let (mut sent, mut owed) = (0u32, 0);
    for turn in 0..(messages / FRAMES) as u64 {
        link.submitted(0, FRAMES as u64, turn);
        link.completed();
        for word in words.chunks_exact_mut(4) {
            sent += 1;
            word.copy_from_slice(&(sent | 1 << 31).to_be_bytes());
        }
        let mut read = black_box(&words[..]);
        while let Some(word) = link.decoder().next(&mut read) {
            let Ok(Control::Ack(number)) = word else {
                panic!("{word:?}, and only ACKs were written");
            };
            assert_eq!(link.ack(number, turn), Ok(true));
        }
        while let Some((_, messages)) = link.next_credit() {
            owed += messages;
        }
    }
    assert_eq!(owed, u64::from(sent));
}

fn pass(messages: usize, is_native: bool, is_sent: bool) {
    let mut engine = engine(is_native);
    engine.emitter_opened(0, &Port::emitters().into());
    let chunk = chunk();
    for turn in 0..messages / FRAMES {
        assert!(
            matches!(engine.ingest(0, black_box(&chunk)), Ingest::Taken),
            "room for all"
        );
        if is_sent {
            send(&mut engine, turn as u64 * 1_000);
        }
    }
    let balance = engine.balance();
    assert!(balance.holds(), "{balance:?}");
}

/// As `cycle`, with messages of text whose payloads are as long.
fn syslog(messages: usize, is_counted: bool) {
    let mut engine = engine(true);
    let port = Port::new(Protocols::of(&[Protocol::Syslog]));
    engine.emitter_opened(0, &port.into());
    let text = format!("{:a<width$}", "<14>", width = FRAME_LEN - 5);
    let message = match is_counted {
        true => format!("{} {text}", text.len()),
        false => format!("{text}\n"),
    };
    let chunk = message.repeat(FRAMES).into_bytes();
    for turn in 0..messages / FRAMES {
        assert!(
            matches!(engine.ingest(0, black_box(&chunk)), Ingest::Taken),
            "room for all"
        );
        send(&mut engine, turn as u64 * 1_000);
    }
    let balance = engine.balance();
    assert!(balance.holds(), "{balance:?}");
}

/// As `cycle`, with numbered batches and an ACK for each.
fn acked(messages: usize) {
    let mut engine = engine(true);
    engine.emitter_opened(0, &Port::emitters().into());
    let mut hello = Vec::new();
    let said = EmitterHello {
        session: 1,
        id: "e1",
    };
    said.encode(&mut hello).expect("an id");
    assert_eq!(engine.ingest(0, &hello), Ingest::Taken);
    let frames = chunk();
    let mut batch = EmitterBatch {
        resent: false,
        awaited: false,
        count: FRAMES as u32,
        body_bytes: frames.len() as u32,
        first_sequence: 1,
    };
    let mut chunk = [&batch.encode()[..], &frames].concat();
    let mut out = Vec::new();
    engine.answer(0, 1, &mut out);
    for turn in 0..messages / FRAMES {
        chunk[..EMITTER_BATCH_BYTES].copy_from_slice(&batch.encode());
        assert!(
            matches!(engine.ingest(0, black_box(&chunk)), Ingest::Taken),
            "room for all"
        );
        send(&mut engine, turn as u64 * 1_000);
        out.clear();
        while engine.next_ripe().is_some() {
            engine.answer(0, 1, &mut out);
        }
        assert_eq!(out.len(), EMITTER_ACK_BYTES, "all of it is ACKed");
        batch.first_sequence += FRAMES as u64;
    }
}

/// JSON, or text, as long as the payload of a frame here.
fn payload(begin: &str, end: &str) -> Vec<u8> {
    let fill = FRAME_LEN - frame::FRAME_HEADER_BYTES as usize - begin.len() - end.len();
    [begin.as_bytes(), &vec![b'x'; fill], end.as_bytes()].concat()
}

fn window() -> Vec<u8> {
    let json = payload(
        "{\"@timestamp\":\"2026-11-29T10:00:00.000Z\",\"host\":{\"name\":\"a\"},\"message\":\"",
        "\"}",
    );
    let mut chunk = [&b"2W"[..], &(FRAMES as u32).to_be_bytes()].concat();
    for sequence in 1..=FRAMES as u32 {
        chunk.extend_from_slice(b"2J");
        chunk.extend_from_slice(&sequence.to_be_bytes());
        chunk.extend_from_slice(&(json.len() as u32).to_be_bytes());
        chunk.extend_from_slice(&json);
    }
    chunk
}

fn messages_of_relp() -> Vec<u8> {
    let text = payload("<13>2026-11-29T10:00:00.000Z host app: ", "");
    let frame = |number: usize| {
        let head = format!("{number} syslog {} ", text.len());
        [head.as_bytes(), &text, b"\n"].concat()
    };
    (1000..1000 + FRAMES).flat_map(frame).collect()
}

/// One field and a time each, as of containers.
fn packed_chunk() -> Vec<u8> {
    let head = b"\x92\xd7\x00\x69\x2a\x37\x80\x00\x00\x00\x05\x81\xa3log\xd9";
    let text = [b'x'; FRAME_LEN - 18];
    let entry = [&head[..], &[text.len() as u8], &text].concat();
    let bytes = (ENTRIES * entry.len()) as u32;
    [
        &b"\x93\xa3app\xc6"[..],
        &bytes.to_be_bytes(),
        &entry.repeat(ENTRIES),
        b"\x82\xa4size\xcd\x01\x00\xa5chunk\xb8000000000000000000000001",
    ]
    .concat()
}

/// `turns` times the same bytes, in the pieces in which the loopback interface has them.
fn shipper(turns: usize, protocol: Protocol, chunk: &[u8]) {
    let mut engine = engine(true);
    let port = Port::new(Protocols::of(&[protocol]));
    engine.emitter_opened(0, &Arc::new(port));
    let mut out = Vec::new();
    if protocol == Protocol::Relp {
        assert_eq!(engine.ingest(0, b"1 open 0\n"), Ingest::Taken);
        engine.answer(0, 1, &mut out);
    }
    for turn in 0..turns {
        engine.begin_turn();
        for piece in chunk.chunks(SEGMENT_BYTES) {
            assert!(
                matches!(engine.ingest(0, black_box(piece)), Ingest::Taken),
                "room for all"
            );
        }
        send(&mut engine, turn as u64 * 1_000);
        out.clear();
        while engine.next_ripe().is_some() {
            engine.answer(0, 1, &mut out);
        }
        assert!(
            !out.is_empty() && engine.units_open(0) == 0,
            "all of it is ACKed"
        );
    }
}

/// One turn of a shard as far as the engine sees it.
fn send(engine: &mut Engine<VecMemory>, now_ns: u64) {
    while let Some(lane) = engine.next_dirty() {
        let mut messages = 0;
        while let Some(range) = engine.transmit(lane, now_ns, true) {
            messages += range.messages;
            engine.written(lane);
            engine.released(lane, range.segment);
        }
        engine.acked(lane, messages, now_ns + 500);
    }
}

fn engine(is_native: bool) -> Engine<VecMemory> {
    let config = EngineConfig {
        shard: 0,
        buffers: BUFFERS,
        buffer_bytes: BUFFER_LEN,
        frame_bytes_max: frame::FRAME_BYTES_MAX_DEFAULT,
        unit_bytes_max: 0,
        window_bytes: u64::MAX,
        window_messages: u64::MAX,
        partial_bytes_max: 1 << 20,
        on_slow: OnSlow::Spill,
    };
    let mut engine = Engine::new(
        config,
        VecMemory::new(BUFFERS as usize, BUFFER_LEN as usize),
    );
    let epoch = |analyzer: u32| LinkEpoch::new(0, u64::from(analyzer) + 1);
    let entries = (0..4u32).map(|analyzer| Entry {
        analyzer,
        name: Arc::from(analyzer.to_string()),
        weight: WEIGHTS[analyzer as usize],
        draining: false,
        pinned: false,
        ejected: false,
        sink: match is_native {
            true => Sink::Native,
            false => Sink::Compact,
        },
        reach: match is_native {
            true => Reach::LinkPerShard,
            false => Reach::SingleLink {
                home: 0,
                epoch: epoch(analyzer),
            },
        },
    });
    let roster = Roster {
        epoch: 1,
        entries: entries.collect(),
    };
    engine.apply_roster(&roster, |entry| Some((epoch(entry.analyzer), Window::ANY)));
    engine
}

/// Records of text.
fn records_of(text: &[u8]) -> Vec<u8> {
    let mut frame = frame::encode_header(251, 3).to_vec();
    frame.extend(text.iter().cycle().take(251));
    let mut records = Vec::new();
    for _ in 0..FRAMES {
        wrap_frame(Form::Raw, &frame, &mut records);
    }
    records
}

/// Packets of as many messages as a batch has, each answered as its server does.
fn packets(sink: Sink, messages: usize) {
    let records = records_of(b"<14>1 2026-01-01T00:00:00Z host app - - - text");
    let options = Arc::new(OutletOptions::default());
    let mut outlet = Outlet::new(sink, &options, [0; 16]).expect("an outlet");
    let mut out = Vec::with_capacity(64 << 10);
    if !outlet.hello(&mut out) {
        let opened = outlet.hear(&mut &b"1 rsp 6 200 OK\n"[..], &mut out);
        assert_eq!(opened, Ok(Some(Heard::Ready)));
    }
    let stamp = Stamp::at(1_700_000_000_123);
    let mut answer = Vec::with_capacity(2048);
    for turn in 0..messages / FRAMES {
        out.clear();
        let mut rest = &records[..];
        while let Some((record, behind)) = Record::parse(rest) {
            let (severity, form, payload) = record.single().expect("a message");
            let message = Message {
                severity,
                form,
                payload,
            };
            assert_eq!(outlet.push(&message, &stamp, &mut out), Pushed::Taken);
            rest = behind;
        }
        let first = (turn * FRAMES) as u64 + 1;
        let identity = Identity {
            instance: 1,
            epoch: 1,
            first,
        };
        outlet.close(&identity, &mut out);
        answer.clear();
        match sink {
            Sink::Forward => {
                // The id is the end of the packet.
                answer.extend_from_slice(b"\x81\xa3ack");
                answer.extend_from_slice(&out[out.len() - 34..]);
            }
            Sink::Lumberjack => answer.extend_from_slice(b"2A\0\0\0\x40"),
            _ => {
                for number in first + 1..=first + FRAMES as u64 {
                    answer.extend_from_slice(number.to_string().as_bytes());
                    answer.extend_from_slice(b" rsp 6 200 OK\n");
                }
            }
        }
        let (mut answers, mut through) = (black_box(&answer[..]), 0);
        while let Ok(Some(heard)) = outlet.hear(&mut answers, &mut Vec::new()) {
            through += match heard {
                Heard::Acked(messages) => messages,
                Heard::Done(_) => FRAMES as u64,
                other => panic!("{other:?}"),
            };
        }
        assert!(answers.is_empty());
        assert_eq!(through, FRAMES as u64);
    }
}

/// Bodies of requests, each of as many messages as a batch has.
fn requests(format: Format, messages: usize) {
    let records = records_of(b"10.0.0.1 - - [30/Nov/2026:03:00:00 +0000] \"GET / HTTP/1.1\" 200 ");
    let options = RequestOptions::default();
    let at = Moment {
        unix_ms: 1_700_000_000_123,
        text: *b"2023-11-14T22:13:20.123Z",
    };
    let mut id = MessageId {
        instance: u64::MAX,
        shard: 1,
        epoch: 12,
        sequence: 1_000_000,
    };
    let (mut out, mut context) = (Vec::with_capacity(64 << 10), Context::default());
    for _ in 0..messages / FRAMES {
        out.clear();
        let mut body = Body::begin(format, &options, &mut out);
        let mut rest = &records[..];
        while let Some((record, behind)) = Record::parse(rest) {
            record.each(|severity, form, payload| {
                let message = Message {
                    severity,
                    form,
                    payload,
                };
                body.push(&message, &id, &at, &mut context, &mut out);
                id.sequence += 1;
            });
            rest = behind;
        }
        body.end(&mut out);
        black_box(&out);
    }
}
