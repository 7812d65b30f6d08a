//! Bytes of the next write: stamped messages in the format that the system under test reads.
//!
//! Messages of one fixed size are laid out once, and only their stamps change from write to write:
//! what the load costs bounds what it can offer.

use super::sizes::{Body, Deck, Sizes};
use crate::syslog::{put_text_stamp, write_text_stamp, HEADER, LINE_LEN_MIN, TEXT_STAMP_LEN};
use crate::wire::{lay_frames, Stamp, MESSAGE_LEN_MIN};
use weir_testkit::inputs::{forward, lumberjack};
use weir_testkit::wire::FRAME_HEADER_BYTES;

/// What the emitters speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Weir's frames: length word, severity, payload
    #[default]
    Frame,
    /// Frames with the text of the syslog lines: load and sinks do the same work for each message as they do for those
    Text,
    /// Syslog over TCP, each message ends with LF (RFC 6587, 3.4.2)
    Lf,
    /// Syslog over TCP, each message after its length (RFC 6587, 3.4.1)
    Octet,
    /// POST /logs with JSON packets
    Http,
    /// Weir's frames in numbered batches, one a write, with ACKs (docs/PROTOCOL.md, 8)
    Acked,
    /// Forward v1: PackedForward chunks of 64 KiB, one in flight on each connection, with acks
    Forward,
    /// Lumberjack v2: windows of 2048 events, two in flight on each connection, not compressed
    Lumberjack,
    /// RELP: 128 messages in flight on each connection
    Relp,
}

impl Format {
    /// Connections are read from.
    pub fn answers(self) -> bool {
        self == Format::Http || self.has_units()
    }

    /// So many units may be open on a connection, and each gets an answer.
    pub fn has_units(self) -> bool {
        matches!(
            self,
            Format::Acked | Format::Forward | Format::Lumberjack | Format::Relp
        )
    }

    /// What an input of Weir calls it; `None`: it goes to the emitters' port, or is HTTP.
    pub fn input(self) -> Option<&'static str> {
        match self {
            Format::Frame | Format::Text | Format::Acked | Format::Http => None,
            Format::Lf | Format::Octet => Some("syslog"),
            Format::Forward => Some("forward"),
            Format::Lumberjack => Some("lumberjack"),
            Format::Relp => Some("relp"),
        }
    }

    /// What each message looks like.
    pub fn of_messages(self) -> Format {
        match self {
            Format::Acked => Format::Frame,
            // Its head, which is of a connection, takes about as many bytes as a line's own.
            Format::Relp => Format::Lf,
            other => other,
        }
    }
}

/// Makes writes of up to a fixed number of messages.
pub struct Composer {
    format: Format,
    deck: Deck,
    /// Messages of a POST.
    packet: usize,
    out: Vec<u8>,
    /// Length of each laid message and offset of its stamp; `None` when they vary.
    laid: Option<(usize, usize)>,
}

const NO_STAMP: Stamp = Stamp {
    intended_ns: 0,
    sequence: 0,
};

impl Composer {
    /// For writes of at most `count` messages; `packet` of them in a POST.
    pub fn new(format: Format, sizes: &Sizes, seed: u64, packet: usize, count: usize) -> Self {
        let mut deck = Deck::new(sizes, seed);
        let mut out = Vec::new();
        let laid = match (sizes, format) {
            (Sizes::Fixed(_), Format::Http) | (Sizes::LogNormal { .. } | Sizes::File { .. }, _) => {
                None
            }
            (Sizes::Fixed(_), _) => {
                let stamp_at = put(format, &mut out, deck.deal(), NO_STAMP);
                let len = out.len();
                out = out.repeat(count);
                if format == Format::Lumberjack {
                    number_events(&mut out, len);
                }
                Some((len, stamp_at))
            }
        };
        Self {
            format,
            deck,
            packet,
            out,
            laid,
        }
    }

    /// `count` messages numbered from `first`.
    pub fn compose(&mut self, count: usize, first: u64, intended_ns: u64) -> &[u8] {
        let stamp = |n: usize| Stamp {
            intended_ns,
            sequence: first + n as u64,
        };
        if let Some((len, stamp_at)) = self.laid {
            for (n, message) in self.out.chunks_exact_mut(len).take(count).enumerate() {
                match self.format {
                    Format::Frame => stamp(n).write(message),
                    _ => write_text_stamp(&mut message[stamp_at..], stamp(n)),
                }
            }
            return &self.out[..count * len];
        }
        self.out.clear();
        if self.format == Format::Http {
            for from in (0..count).step_by(self.packet) {
                let numbers = from..count.min(from + self.packet);
                put_post(&mut self.out, &mut self.deck, numbers.map(stamp));
            }
        } else {
            for n in 0..count {
                let at = self.out.len();
                put(self.format, &mut self.out, self.deck.deal(), stamp(n));
                if self.format == Format::Lumberjack {
                    number_event(&mut self.out[at..], n);
                }
            }
        }
        &self.out
    }
}

/// Appends one message; returns where in it the stamp begins.
fn put(format: Format, out: &mut Vec<u8>, body: Body, stamp: Stamp) -> usize {
    match format {
        Format::Frame => {
            put_frame(out, body, stamp);
            return 0;
        }
        Format::Text => return put_text_frame(out, body, stamp),
        Format::Forward => return put_entry(out, body, stamp),
        Format::Lumberjack => return put_event(out, body, stamp),
        _ => {}
    }
    let len = text_len(body, 1) + 1;
    let begin = out.len();
    if format == Format::Octet {
        // As many bytes on the wire as a line, while that has room: the count is there, the LF is not.
        let digits = len.to_string().len() + 1;
        let text = (len - digits).max(LINE_LEN_MIN - 1);
        out.extend_from_slice(format!("{text} ").as_bytes());
        return put_text(out, body, stamp, text) - begin;
    }
    let at = put_text(out, body, stamp, len - 1);
    out.push(b'\n');
    at - begin
}

/// Bytes of a line's text that has so many bytes around it.
fn text_len(body: Body, around: usize) -> usize {
    const TEXT_LEN_MIN: usize = LINE_LEN_MIN - 1;
    match body {
        Body::Bytes(n) => n.saturating_sub(around).max(TEXT_LEN_MIN),
        Body::Line(line) => TEXT_LEN_MIN + 1 + line.len(),
    }
}

/// The text of an entry or an event: stamp, and filler up to `len` bytes, or the line.
fn text_of(body: Body, stamp: Stamp, around: usize) -> String {
    let mut text = Vec::new();
    put_text_stamp(&mut text, stamp);
    match body {
        Body::Bytes(n) => text.resize(n.saturating_sub(around).max(TEXT_STAMP_LEN), b'x'),
        Body::Line(line) => {
            text.push(b' ');
            text.extend_from_slice(line);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// An entry of `--size` bytes; returns where its stamp begins.
fn put_entry(out: &mut Vec<u8>, body: Body, stamp: Stamp) -> usize {
    const AROUND: usize = 18;
    let begin = out.len();
    let text = text_of(body, stamp, AROUND);
    forward::put_entry(out, &text);
    out.len() - text.len() - begin
}

/// An event of `--size` bytes with its head; returns where its stamp begins.
fn put_event(out: &mut Vec<u8>, body: Body, stamp: Stamp) -> usize {
    const BEFORE: &str = "{\"message\":";
    let around = lumberjack::EVENT_HEAD_BYTES + BEFORE.len() + "\"\"}".len();
    let text = serde_json::Value::from(text_of(body, stamp, around)).to_string();
    lumberjack::put_event(out, 1, &format!("{BEFORE}{text}}}"));
    lumberjack::EVENT_HEAD_BYTES + BEFORE.len() + 1
}

/// Event `n` of its window, from 0.
fn number_event(event: &mut [u8], n: usize) {
    event[2..6].copy_from_slice(&(n as u32 + 1).to_be_bytes()); // of one window
}

fn number_events(events: &mut [u8], len: usize) {
    for (n, event) in events.chunks_exact_mut(len).enumerate() {
        number_event(event, n);
    }
}

/// A syslog message of `len` bytes; returns the absolute position of its stamp.
fn put_text(out: &mut Vec<u8>, body: Body, stamp: Stamp, len: usize) -> usize {
    let end = out.len() + len;
    out.extend_from_slice(HEADER);
    let at = out.len();
    put_text_stamp(out, stamp);
    if let Body::Line(line) = body {
        out.push(b' ');
        out.extend_from_slice(line);
    }
    out.resize(end, b'x');
    at
}

fn put_frame(out: &mut Vec<u8>, body: Body, stamp: Stamp) {
    let at = out.len();
    let len = match body {
        Body::Bytes(n) => n,
        Body::Line(line) => MESSAGE_LEN_MIN + line.len(),
    };
    out.extend_from_slice(&lay_frames(MESSAGE_LEN_MIN, 1));
    out[at..at + 4].copy_from_slice(&(len as u32).to_be_bytes());
    stamp.write(&mut out[at..]);
    if let Body::Line(line) = body {
        out.extend_from_slice(line);
    }
    out.resize(at + len, b'x');
}

/// A frame of `--size` bytes whose payload is a line's text; returns where its stamp begins.
fn put_text_frame(out: &mut Vec<u8>, body: Body, stamp: Stamp) -> usize {
    const SEVERITY: u8 = 3;
    let begin = out.len();
    let text = text_len(body, FRAME_HEADER_BYTES);
    // The load's own arguments bound it.
    out.extend_from_slice(&((FRAME_HEADER_BYTES + text) as u32).to_be_bytes());
    out.push(SEVERITY);
    put_text(out, body, stamp, text) - begin
}

/// One request. `--size` counts the bytes of a message's JSON object.
fn put_post(out: &mut Vec<u8>, deck: &mut Deck, stamps: impl Iterator<Item = Stamp>) {
    const AROUND: usize = "{\"message\":\"\"},".len();
    let mut packet = b"{\"emitterId\":\"bench\",\"messages\":[".to_vec();
    for stamp in stamps {
        packet.extend_from_slice(b"{\"message\":\"");
        put_text_stamp(&mut packet, stamp);
        match deck.deal() {
            Body::Bytes(n) => {
                let filler = n.saturating_sub(AROUND + TEXT_STAMP_LEN);
                packet.resize(packet.len() + filler, b'x');
            }
            Body::Line(line) => {
                let text = serde_json::Value::from(String::from_utf8_lossy(line)).to_string();
                packet.push(b' ');
                packet.extend_from_slice(&text.as_bytes()[1..text.len() - 1]);
            }
        }
        packet.extend_from_slice(b"\"},");
    }
    packet.pop();
    packet.extend_from_slice(b"]}");
    out.extend_from_slice(&crate::http::post_whole("", &packet));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syslog::{next_message, read_text_stamp};

    fn stamps_of_syslog(bytes: &[u8]) -> Vec<Stamp> {
        let (mut at, mut stamps) = (0, Vec::new());
        while let Some((len, text)) = next_message(&bytes[at..]).expect("valid") {
            stamps.push(read_text_stamp(&bytes[at..][text]).expect("stamped"));
            at += len;
        }
        assert_eq!(at, bytes.len(), "whole messages only");
        stamps
    }

    fn expected(first: u64) -> Vec<Stamp> {
        (first..first + 3)
            .map(|sequence| Stamp {
                intended_ns: 5,
                sequence,
            })
            .collect()
    }

    #[test]
    fn every_format_and_size_holds_its_stamps() {
        for format in FORMATS {
            for sizes in ["256", "lognormal:200,1.5"] {
                let sizes = sizes.parse().expect("valid");
                let mut composer = Composer::new(format, &sizes, 1, 1, 4);
                for first in [0, 7] {
                    let bytes = composer.compose(3, first, 5).to_vec();
                    if matches!(sizes, Sizes::Fixed(_)) {
                        assert_eq!(bytes.len(), 3 * 256, "{format:?}");
                    }
                    let stamps = match format {
                        Format::Frame | Format::Text => stamps_of_frames(&bytes),
                        Format::Forward | Format::Lumberjack => stamps_anywhere(&bytes),
                        _ => stamps_of_syslog(&bytes),
                    };
                    assert_eq!(stamps, expected(first), "{format:?} {sizes}");
                }
            }
        }
    }

    const FORMATS: [Format; 6] = [
        Format::Frame,
        Format::Text,
        Format::Lf,
        Format::Octet,
        Format::Forward,
        Format::Lumberjack,
    ];

    fn stamps_anywhere(bytes: &[u8]) -> Vec<Stamp> {
        let found = memchr::memmem::find_iter(bytes, b"~weir:");
        let stamps = found.map(|at| read_text_stamp(&bytes[at..]).expect("stamped"));
        stamps.collect()
    }

    #[test]
    fn events_are_numbered_within_their_window() {
        for sizes in ["256", "lognormal:200,1.5"] {
            let sizes = sizes.parse().expect("valid");
            let mut composer = Composer::new(Format::Lumberjack, &sizes, 1, 1, 3);
            let bytes = composer.compose(3, 9, 0);
            let (mut at, mut numbers) = (0, Vec::new());
            while at < bytes.len() {
                let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4"));
                assert_eq!(&bytes[at..at + 2], b"2J");
                numbers.push(word(at + 2));
                let json = &bytes[at + 10..][..word(at + 6) as usize];
                let event: serde_json::Value = serde_json::from_slice(json).expect("JSON");
                assert!(event["message"].is_string());
                at += 10 + json.len();
            }
            assert_eq!(numbers, [1, 2, 3]);
        }
    }

    fn stamps_of_frames(bytes: &[u8]) -> Vec<Stamp> {
        let mut stamps = Vec::new();
        let mut decoder = crate::wire::Decoder::Frames;
        let used = decoder
            .decode(bytes, |f| stamps.extend(Stamp::read(f)))
            .expect("valid");
        assert_eq!(used, bytes.len());
        stamps
    }

    #[test]
    fn a_post_holds_its_messages_and_says_its_length() {
        let mut composer = Composer::new(Format::Http, &Sizes::Fixed(100), 1, 2, 3);
        let bytes = composer.compose(3, 7, 5).to_vec();
        let text = String::from_utf8(bytes).expect("text");
        let posts: Vec<&str> = text.split("POST /logs").skip(1).collect();
        assert_eq!(posts.len(), 2, "two of two and one message");
        let mut stamps = Vec::new();
        for post in posts {
            let (head, body) = post.split_once("\r\n\r\n").expect("a body");
            assert!(
                head.lines()
                    .any(|line| line == format!("Content-Length: {}", body.len())),
                "{head}"
            );
            let packet: serde_json::Value = serde_json::from_str(body).expect("JSON");
            for message in packet["messages"].as_array().expect("a list") {
                assert_eq!(message.to_string().len() + 1, 100);
                let text = message["message"].as_str().expect("text");
                stamps.push(read_text_stamp(text.as_bytes()).expect("stamped"));
            }
        }
        assert_eq!(stamps, expected(7));
    }
}
