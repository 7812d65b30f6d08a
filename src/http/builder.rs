//! Frames joined to one packet for an HTTP analyzer.
//!
//! ```text
//!   {"id":"........","emitterId":"tcp","timestamp":"........","messages":[ m , m , m ],"metadata":{},"size":3}
//!          filled in by finish()                    filled in
//! ```

use base64::engine::general_purpose::STANDARD;
use base64::Engine;

use serde_json::value::RawValue;

use super::ids::{uuid_text, UUID_BYTES};
use super::inspect::Names;
use super::json::{self, Count, Sink};
use super::level::level_of;
use super::respond::number;
use super::TIMESTAMP_BYTES;
use weir_protocol::described::{About, Kind};
use weir_protocol::frame::FRAME_HEADER_BYTES;

/// `emitterId` of packets that were joined, and `source` of messages that came by TCP.
pub const TCP_EMITTER: &str = "tcp";

const OPEN: &[u8] = b"{\"id\":\"";
const BEFORE_TIME: &[u8] = b"\",\"emitterId\":\"tcp\",\"timestamp\":\"";
const BEFORE_MESSAGES: &[u8] = b"\",\"messages\":[";
const AFTER_MESSAGES: &[u8] = b"],\"metadata\":{},\"size\":";
const ID_AT: usize = OPEN.len();
const TIME_AT: usize = ID_AT + UUID_BYTES + BEFORE_TIME.len();
const MESSAGES_AT: usize = TIME_AT + TIMESTAMP_BYTES + BEFORE_MESSAGES.len();
/// Digits of a count, and the last bracket.
const END_BYTES_MAX: usize = AFTER_MESSAGES.len() + 20 + 1;
/// base64 is encoded in pieces of so many bytes, a multiple of 3.
const PIECE_BYTES: usize = 48;

/// Brackets of a message, its own included: 64 of a packet, but for those of packet and array.
const PIECE_DEPTH_MAX: usize = 62;

/// A packet that is being built, with its bounds.
#[derive(Clone, Debug)]
pub struct PacketBuilder {
    body: Vec<u8>,
    messages: usize,
    bytes_max: usize,
    messages_max: usize,
}

/// A packet out of raw frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltPacket {
    /// Header X-Packet-ID.
    pub packet_id: [u8; UUID_BYTES],
    /// Header X-Emitter-ID.
    pub emitter_id: &'static str,
    /// Messages in it.
    pub messages: usize,
    /// The JSON to be POSTed.
    pub body: Vec<u8>,
}

impl PacketBuilder {
    /// An empty packet that takes at most `messages_max` messages and `bytes_max` bytes of body, but always
    /// one message: one that is larger could never be delivered otherwise.
    pub fn new(bytes_max: usize, messages_max: usize) -> Self {
        Self {
            body: Vec::new(),
            messages: 0,
            bytes_max,
            messages_max,
        }
    }

    /// Nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Messages so far.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Adds one frame under an id of its own. False: it is full, or `frame` has no header; nothing was
    /// added.
    pub fn push(&mut self, frame: &[u8], id: [u8; 16], now: &[u8; TIMESTAMP_BYTES]) -> bool {
        let Some((header, payload)) = frame.split_first_chunk::<{ FRAME_HEADER_BYTES as usize }>()
        else {
            return false;
        };
        let [.., severity] = *header;
        let bytes = || {
            let mut count = Count(0);
            message(&mut count, severity, payload, id, now);
            count.0
        };
        let has_room = self.open(bytes);
        if has_room {
            message(&mut self.body, severity, payload, id, now);
        }
        has_room
    }

    /// The same for a message that says what it is and where it came from: both go into its JSON. What came by HTTP is a
    /// message as JSON already.
    pub fn push_described(
        &mut self,
        about: &About,
        severity: u8,
        payload: &[u8],
        id: [u8; 16],
        now: &[u8; TIMESTAMP_BYTES],
    ) -> bool {
        let is_json = about.kind == Kind::Json;
        if is_json && matches!(about.protocol, "" | "http") && is_piece(payload) {
            return self.push_message(payload);
        }
        let is_value = is_json && is_piece_below(payload, PIECE_DEPTH_MAX - 1);
        let mut message = Vec::new();
        opening(&mut message, severity, id, now);
        match is_value {
            true => message.put(payload.trim_ascii()),
            false => text(&mut message, payload),
        }
        described(&mut message, about, is_value, severity, payload);
        self.push_message(&message)
    }

    /// The same for a piece: its payload is a message as JSON already, see [`is_piece`].
    pub fn push_piece(&mut self, frame: &[u8]) -> bool {
        let Some((_, message)) = frame.split_first_chunk::<{ FRAME_HEADER_BYTES as usize }>()
        else {
            return false;
        };
        self.push_message(message)
    }

    /// A message as JSON.
    fn push_message(&mut self, message: &[u8]) -> bool {
        let has_room = self.open(|| message.len());
        if has_room {
            self.body.extend_from_slice(message);
        }
        has_room
    }

    /// Everything before the next message of so many bytes. False: there is no room for it.
    fn open(&mut self, bytes: impl FnOnce() -> usize) -> bool {
        if self.messages > 0 {
            if self.messages >= self.messages_max
                || self.body.len() + 1 + END_BYTES_MAX + bytes() > self.bytes_max
            {
                return false;
            }
            self.body.push(b',');
        } else {
            self.body.extend_from_slice(OPEN);
            self.body.extend_from_slice(&[b'0'; UUID_BYTES]);
            self.body.extend_from_slice(BEFORE_TIME);
            self.body.extend_from_slice(&[b'0'; TIMESTAMP_BYTES]);
            self.body.extend_from_slice(BEFORE_MESSAGES);
        }
        self.messages += 1;
        true
    }

    /// The packet; the builder is empty again. `None` if nothing was pushed.
    pub fn finish(&mut self, id: [u8; 16], now: &[u8; TIMESTAMP_BYTES]) -> Option<BuiltPacket> {
        if self.is_empty() {
            return None;
        }
        let messages = std::mem::take(&mut self.messages);
        let mut body = std::mem::take(&mut self.body);
        let packet_id = uuid_text(id);
        body[ID_AT..ID_AT + UUID_BYTES].copy_from_slice(&packet_id);
        body[TIME_AT..TIME_AT + TIMESTAMP_BYTES].copy_from_slice(now);
        assert!(body.len() > MESSAGES_AT);
        body.extend_from_slice(AFTER_MESSAGES);
        number(&mut body, messages);
        body.push(b'}');
        Some(BuiltPacket {
            packet_id,
            emitter_id: TCP_EMITTER,
            messages,
            body,
        })
    }
}

fn message(
    sink: &mut impl Sink,
    severity: u8,
    payload: &[u8],
    id: [u8; 16],
    now: &[u8; TIMESTAMP_BYTES],
) {
    opening(sink, severity, id, now);
    text(sink, payload);
    sink.put(b",\"source\":\"tcp\"}");
}

/// All before what the message says.
fn opening(sink: &mut impl Sink, severity: u8, id: [u8; 16], now: &[u8; TIMESTAMP_BYTES]) {
    sink.put(b"{\"id\":\"");
    sink.put(&uuid_text(id));
    sink.put(b"\",\"timestamp\":\"");
    sink.put(now);
    sink.put(b"\",\"level\":\"");
    sink.put(level_of(severity).as_bytes());
    sink.put(b"\",\"message\":");
}

/// A payload as a JSON string.
fn text(sink: &mut impl Sink, payload: &[u8]) {
    match std::str::from_utf8(payload) {
        Ok(text) => json::write_string(sink, text),
        Err(_) => {
            sink.put(b"\"");
            for piece in payload.chunks(PIECE_BYTES) {
                let mut text = [0; PIECE_BYTES / 3 * 4];
                let len = STANDARD.encode_slice(piece, &mut text).unwrap_or_default();
                sink.put(&text[..len]);
            }
            sink.put(b"\",\"encoding\":\"base64\"");
        }
    }
}

/// All behind what the message says. What its sender calls JSON and is none is raw.
fn described(sink: &mut impl Sink, about: &About, is_value: bool, severity: u8, payload: &[u8]) {
    let kind = match about.kind {
        Kind::Json if !is_value => Kind::Raw,
        kind => kind,
    };
    sink.put(b",\"source\":\"tcp\",\"form\":\"");
    sink.put(kind.as_str().as_bytes());
    sink.put(b"\",\"severity\":");
    put_number(sink, severity);
    if let Some(facility) = facility(payload).filter(|_| kind == Kind::Syslog) {
        sink.put(b",\"facility\":");
        put_number(sink, facility);
    }
    let tag = String::from_utf8_lossy(about.tag);
    let fields = [
        (&b",\"input\":"[..], about.input),
        (b",\"protocol\":", about.protocol),
        (b",\"peer\":", about.peer),
        (b",\"tag\":", &tag),
    ];
    for (name, value) in fields {
        if !value.is_empty() {
            sink.put(name);
            json::write_string(sink, value);
        }
    }
    sink.put(b"}");
}

fn put_number(sink: &mut impl Sink, value: u8) {
    let mut digits = Vec::with_capacity(3);
    number(&mut digits, usize::from(value));
    sink.put(&digits);
}

/// Facility of a syslog message: 0 to 23, where its PRI is one.
fn facility(message: &[u8]) -> Option<u8> {
    let digits = message.strip_prefix(b"<")?;
    let end = digits.iter().take(4).position(|byte| *byte == b'>')?;
    let pri: u8 = std::str::from_utf8(&digits[..end]).ok()?.parse().ok()?;
    (digits[0].is_ascii_digit() && pri <= 191).then_some(pri >> 3)
}

/// Whether a payload that its sender calls JSON can stand in a packet as it is: one object, and nothing in it for which
/// an analyzer would refuse the whole packet.
pub fn is_piece(payload: &[u8]) -> bool {
    is_piece_below(payload, PIECE_DEPTH_MAX)
}

fn is_piece_below(payload: &[u8], depth_max: usize) -> bool {
    let Ok(value) = serde_json::from_slice::<&RawValue>(payload) else {
        return false;
    };
    let value = value.get();
    value.starts_with('{') && Names::default().inspect(value, depth_max).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::iso8601;
    use super::*;
    use serde_json::{json, Value};

    fn frame(severity: u8, payload: &[u8]) -> Vec<u8> {
        let header = weir_protocol::record::frame_header(5 + payload.len(), severity);
        [&header[..], payload].concat()
    }

    #[test]
    fn frames_become_messages() {
        let (now, later) = (iso8601(0), iso8601(1));
        let mut builder = PacketBuilder::new(10_000, 10);
        assert_eq!(builder.finish([0; 16], &now), None);
        let binary: Vec<u8> = (0..=255).cycle().take(1001).collect();
        assert!(builder.push(&frame(0, b"a \"quoted\"\n\x01 \xc3\xa9"), [1; 16], &now));
        assert!(builder.push(&frame(9, &binary), [2; 16], &later));
        assert!(builder.push(&frame(2, b""), [3; 16], &later));
        assert!(!builder.push(&[0, 0, 0, 4], [3; 16], &later), "no frame");
        assert_eq!(builder.messages(), 3);
        let packet = builder.finish([4; 16], &later).expect("a packet");
        assert!(builder.is_empty());
        assert_eq!((packet.messages, packet.emitter_id), (3, "tcp"));
        let body: Value = serde_json::from_slice(&packet.body).expect("JSON");
        let id = |byte: u8| String::from_utf8(uuid_text([byte; 16]).to_vec()).expect("ASCII");
        assert_eq!(packet.packet_id, uuid_text([4; 16]));
        let time = ["1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.001Z"];
        let expected = json!({
            "id": id(4), "emitterId": "tcp", "timestamp": time[1], "size": 3, "metadata": {},
            "messages": [
                {"id": id(1), "timestamp": time[0], "level": "fatal", "message": "a \"quoted\"\n\u{1} é",
                 "source": "tcp"},
                {"id": id(2), "timestamp": time[1], "level": "info", "message": STANDARD.encode(&binary),
                 "encoding": "base64", "source": "tcp"},
                {"id": id(3), "timestamp": time[1], "level": "warn", "message": "", "source": "tcp"},
            ],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn only_an_object_that_no_analyzer_refuses_is_a_piece() {
        let deep = |brackets: usize| {
            let brackets = brackets - 1;
            format!("{{\"a\":{}{}}}", "[".repeat(brackets), "]".repeat(brackets))
        };
        let cases = [
            ("{}", true),
            (r#" {"a":[1,{"b":null}],"c":"\u00e9"} "#, true),
            (&deep(62), true),
            (&deep(63), false),
            ("", false),
            ("text", false),
            ("[]", false),
            ("7", false),
            (r#"{"a":1}}"#, false),
            (r#"{"a":1},{"b":2}"#, false),
            (r#"{"a":1,"a":2}"#, false),
            (r#"{"a":1e999}"#, false),
            (r#"{"a":"#, false),
        ];
        for (payload, expected) in cases {
            assert_eq!(is_piece(payload.as_bytes()), expected, "{payload}");
        }
        assert!(!is_piece(b"{\"a\":\"\xff\"}"), "not UTF-8");
    }

    #[test]
    fn bounds_hold_and_one_message_always_fits() {
        let now = iso8601(0);
        let fill = |bytes_max, messages_max, payload: &[u8]| {
            let mut builder = PacketBuilder::new(bytes_max, messages_max);
            let mut pushed = 0;
            while pushed < 1000 && builder.push(&frame(3, payload), [0; 16], &now) {
                pushed += 1;
            }
            let packet = builder.finish([0; 16], &now).expect("one at least");
            serde_json::from_slice::<Value>(&packet.body).expect("JSON");
            assert_eq!(packet.messages, pushed);
            (pushed, packet.body.len())
        };
        assert_eq!(fill(1 << 20, 7, b"x").0, 7);
        assert_eq!(fill(1 << 20, 0, b"x").0, 1);
        assert_eq!(fill(0, 100, &[0; 500]).0, 1);
        for payload in [&b"plain"[..], &[0; 90], &[0xFF; 91]] {
            let (pushed, bytes) = fill(5000, 1000, payload);
            let (_, one) = fill(0, 1, payload);
            assert!(
                pushed > 1 && bytes <= 5000 && bytes + one > 5000,
                "{pushed} in {bytes}"
            );
        }
    }
}
