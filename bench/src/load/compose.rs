//! Bytes of the next write: stamped messages in the format that the system under test reads.
//!
//! Messages of one fixed size are laid out once, and only their stamps change from write to write:
//! what the load costs bounds what it can offer.

use super::sizes::{Body, Deck, Sizes};
use crate::syslog::{put_text_stamp, write_text_stamp, HEADER, LINE_LEN_MIN, TEXT_STAMP_LEN};
use crate::wire::{lay_frames, Stamp, MESSAGE_LEN_MIN};

/// What the emitters speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Weir's frames: length word, severity, payload
    #[default]
    Frame,
    /// Syslog over TCP, each message ends with LF (RFC 6587, 3.4.2)
    Lf,
    /// Syslog over TCP, each message after its length (RFC 6587, 3.4.1)
    Octet,
    /// POST /logs with JSON packets
    Http,
    /// Weir's frames in numbered batches, one a write, with ACKs (docs/PROTOCOL.md, 8)
    Acked,
}

impl Format {
    /// Connections are read from.
    pub fn answers(self) -> bool {
        matches!(self, Format::Http | Format::Acked)
    }

    /// What each message looks like.
    pub fn of_messages(self) -> Format {
        match self {
            Format::Acked => Format::Frame,
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
                put(self.format, &mut self.out, self.deck.deal(), stamp(n));
            }
        }
        &self.out
    }
}

/// Appends one message; returns where in it the stamp begins.
fn put(format: Format, out: &mut Vec<u8>, body: Body, stamp: Stamp) -> usize {
    if format == Format::Frame {
        put_frame(out, body, stamp);
        return 0;
    }
    let len = match body {
        Body::Bytes(n) => n.max(LINE_LEN_MIN),
        Body::Line(line) => LINE_LEN_MIN + 1 + line.len(),
    };
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
        for format in [Format::Frame, Format::Lf, Format::Octet] {
            for sizes in ["256", "lognormal:200,1.5"] {
                let sizes = sizes.parse().expect("valid");
                let mut composer = Composer::new(format, &sizes, 1, 1, 4);
                for first in [0, 7] {
                    let bytes = composer.compose(3, first, 5).to_vec();
                    if matches!(sizes, Sizes::Fixed(_)) {
                        assert_eq!(bytes.len(), 3 * 256, "{format:?}");
                    }
                    let stamps = match format {
                        Format::Frame => stamps_of_frames(&bytes),
                        _ => stamps_of_syslog(&bytes),
                    };
                    assert_eq!(stamps, expected(first), "{format:?} {sizes}");
                }
            }
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
