//! HTTP: requests in any pieces are read as whole ones, and as a plain reading of the stream has them;
//! what is accepted as a packet renders to valid JSON, and says the same as frames, as a record and as
//! frames out of the record; memory stays within the limits; answers in any pieces are the same answers.
//!
//! Input: u8 what (0 to 2 requests, 3 a packet, 4 lines, 5 answers, 6 frames), u16 split, stream.

use serde_json::value::RawValue;
use weir::http::{
    iso8601, parse_ndjson, parse_packet, Answer, HttpError, Limits, Packet, PacketBuilder,
    PacketLimits, Reader, Request, ResponseReader, SeededIds, Step,
};
use weir::protocol::frame;
use weir::protocol::record::{wrap_frame, Record};
use weir::protocol::Form;

use super::input::{pieces, Input};

const LIMITS: Limits = Limits {
    head_bytes: 300,
    request_line_bytes: 100,
    headers_max: 8,
    body_bytes: 400,
    inflated_bytes: 600,
};
const PACKET_LIMITS: PacketLimits = PacketLimits {
    messages_max: 20,
    message_bytes_max: 600,
    depth_max: 12,
};
/// A reader holds a head, doubled as vectors grow, a body and what it inflates to.
const HELD_BYTES_MAX: usize =
    2 * LIMITS.head_bytes + LIMITS.body_bytes + LIMITS.inflated_bytes + 600;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let what = input.below(7);
    let seed = input.u16();
    let stream = input.rest();
    match what {
        0..=2 => requests(stream, seed),
        3 => check_packet(parse_packet(stream, &now(), &mut ids(), &PACKET_LIMITS).ok()),
        4 => check_packet(parse_ndjson(stream, Some("e"), &now(), &mut ids(), &PACKET_LIMITS).ok()),
        5 => answers(stream, seed),
        _ => frames(stream),
    }
}

fn now() -> [u8; 24] {
    iso8601(1_768_473_000_000)
}

fn ids() -> SeededIds {
    SeededIds::from_u64(7)
}

/// One thing that a stream yields.
#[derive(Debug, PartialEq)]
enum Seen {
    Request {
        line: [String; 3],
        keep_alive: bool,
        plain: bool,
        body: Vec<u8>,
    },
    Refused(HttpError),
}

fn requests(stream: &[u8], seed: u16) {
    let whole = read(&[stream]);
    let split = read(&pieces(stream, seed));
    assert_eq!(whole, split, "the same in any pieces");
    check_framing(stream, &whole);
}

fn read(pieces: &[&[u8]]) -> Vec<Seen> {
    let mut reader = Reader::new();
    let mut seen = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match reader.next(&mut input, &LIMITS) {
                Ok(Step::NeedMore) => break,
                Ok(Step::Continue) => {}
                Ok(Step::Request(request)) => seen.push(keep(&request)),
                Err(error) => {
                    assert!((400..=505).contains(&error.status) && !error.detail.is_empty());
                    let close = error.close;
                    seen.push(Seen::Refused(error));
                    if close {
                        return seen;
                    }
                }
            }
            assert!(reader.capacity() <= HELD_BYTES_MAX, "{}", reader.capacity());
        }
        assert!(input.is_empty(), "NeedMore leaves nothing");
        assert!(reader.capacity() <= HELD_BYTES_MAX && reader.buffered() <= reader.capacity());
    }
    seen
}

fn keep(request: &Request<'_>) -> Seen {
    assert!(request.body.len() <= LIMITS.inflated_bytes.max(LIMITS.body_bytes));
    let mut ids = ids();
    check_packet(parse_packet(request.body, &now(), &mut ids, &PACKET_LIMITS).ok());
    Seen::Request {
        line: [request.method, request.path, request.query].map(str::to_string),
        keep_alive: request.keep_alive,
        plain: request.header("content-encoding").is_none(),
        body: request.body.to_vec(),
    }
}

/// The plain reading: requests without a coding are found where a table of lines has them.
fn check_framing(stream: &[u8], seen: &[Seen]) {
    let mut rest = stream;
    for one in seen {
        let Seen::Request { plain, body, .. } = one else {
            return;
        };
        while let Some(behind) = rest.strip_prefix(b"\r\n") {
            rest = behind;
        }
        let end = find(rest, b"\r\n\r\n").expect("an empty line ends the head");
        let (head, behind) = rest.split_at(end + 4);
        let head = String::from_utf8_lossy(head).to_lowercase();
        let value = |name: &str| {
            let line = head.lines().find(|line| line.starts_with(name));
            line.map(|line| line[name.len()..].trim().to_string())
        };
        let length = value("content-length:").map(|n| n.parse::<usize>().expect("a number"));
        let chunked = value("transfer-encoding:").is_some();
        assert!(length.is_none() || !chunked, "one framing");
        let (raw, behind) = if chunked {
            dechunk(behind)
        } else {
            let (raw, behind) = behind.split_at(length.unwrap_or(0));
            (raw.to_vec(), behind)
        };
        assert!(!plain || raw == *body, "the body");
        rest = behind;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn dechunk(mut rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut data = Vec::new();
    loop {
        let end = find(rest, b"\r\n").expect("a size line");
        let line = std::str::from_utf8(&rest[..end]).unwrap_or_else(|_| {
            let valid = rest
                .iter()
                .position(|byte| *byte == b';')
                .expect("an extension");
            std::str::from_utf8(&rest[..valid]).expect("digits")
        });
        let digits = line.split(';').next().expect("one part");
        let size = usize::from_str_radix(digits, 16).expect("hexadecimal");
        rest = &rest[end + 2..];
        if size == 0 {
            break;
        }
        data.extend_from_slice(&rest[..size]);
        rest = rest[size..].strip_prefix(b"\r\n").expect("behind data");
    }
    while !rest.starts_with(b"\r\n") {
        rest = &rest[find(rest, b"\r\n").expect("a trailer") + 2..];
    }
    (data, &rest[2..])
}

fn check_packet(packet: Option<Packet<'_>>) {
    let Some(packet) = packet else {
        return;
    };
    let count = packet.message_count();
    assert!(count <= PACKET_LIMITS.messages_max);
    let mut frames = Vec::new();
    packet.write_frames(&mut frames);
    assert_eq!(frames.len(), packet.frames_bytes());
    assert_eq!(count_frames(&frames), count);
    let mut record = Vec::new();
    packet.write_record(&mut record);
    if count == 0 {
        return assert!(record.is_empty());
    }
    let (record, rest) = Record::parse(&record).expect("a record");
    assert!(rest.is_empty() && record.messages() == count);
    assert_eq!(record.emitter_id(), Some(packet.emitter_id()));
    assert!(!packet.emitter_id().contains(char::is_control));
    let mut again = Vec::new();
    record.write_frames(&mut again);
    assert_eq!(again, frames, "frames out of the record");
    check_json(record.body().expect("a packet"));
}

/// Counts frames of JSON within the limit.
fn count_frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    let max = PACKET_LIMITS.message_bytes_max as u32;
    while !bytes.is_empty() {
        let length = frame::peek(bytes, max)
            .expect("a length")
            .expect("a header");
        assert!(bytes[4] <= 5, "severity");
        check_json(&bytes[5..length]);
        bytes = &bytes[length..];
        count += 1;
    }
    count
}

fn check_json(bytes: &[u8]) {
    let object: &RawValue = serde_json::from_slice(bytes).expect("JSON");
    assert!(object.get().starts_with('{'));
}

fn answers(stream: &[u8], seed: u16) {
    assert_eq!(hear(&[stream]), hear(&pieces(stream, seed)));
}

/// Answers up to one that ends the connection; whether it was an error; what closing yields.
fn hear(pieces: &[&[u8]]) -> (Vec<Answer>, bool, Option<Answer>) {
    let mut reader = ResponseReader::new();
    let mut answers = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match reader.next(&mut input) {
                Err(_) => return (answers, true, None),
                Ok(None) => break,
                Ok(Some(answer)) => answers.push(answer),
            }
            if answers.last().is_some_and(|answer| !answer.reusable) {
                return (answers, false, None);
            }
        }
        assert!(input.is_empty());
    }
    (answers, false, reader.closed())
}

/// Frames are joined to packets that are JSON and within the bounds; as records they come back.
fn frames(stream: &[u8]) {
    let mut builder = PacketBuilder::new(600, 5);
    let mut rest = stream;
    while let Ok(Some(length)) = frame::peek(rest, 300) {
        let Some((one, behind)) = rest.split_at_checked(length) else {
            break;
        };
        let mut record = Vec::new();
        wrap_frame(Form::Raw, one, &mut record);
        let (record, nothing) = Record::parse(&record).expect("a record");
        assert!(nothing.is_empty() && record.frame() == Some(one));
        if !builder.push(one, [1; 16], &now()) {
            assert!(!builder.is_empty(), "one always fits");
            finish(&mut builder);
            assert!(builder.push(one, [1; 16], &now()));
        }
        rest = behind;
    }
    finish(&mut builder);
}

fn finish(builder: &mut PacketBuilder) {
    let Some(packet) = builder.finish([2; 16], &now()) else {
        return;
    };
    assert!(packet.messages <= 5 && (packet.messages == 1 || packet.body.len() <= 600));
    check_json(&packet.body);
}
