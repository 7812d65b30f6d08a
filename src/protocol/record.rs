//! What a lane towards an HTTP analyzer keeps.
//!
//! ```text
//!   0       4       8      10      12      16
//!   | total | k     |h|id  | emit- | first | packet | emitter | k frame    | body, as it is POSTed   |
//!   | u32   | u32   |o|len | ter   | u32   | id     | id      | headers    | {... [message,message]..|
//!                    p u8    u16     |                         5 bytes      '------>
//!                    s u8            |
//!                                    '--------- offset of the first message ^
//!
//!   | total | 0     | frame |          a message that came by TCP, as it came
//!   | total | !0    | frame |          a piece: a message that came by HTTP and was cut out of its packet
//!   | total | !1    | frame |          an entry of Fluent Forward: its payload is | length u16 | tag | time | record |
//!   | total | !2    | frame |          a message that says where it came from (described.rs)
//! ```
//!
//! The k frame headers are those that the messages would have by TCP: when an HTTP analyzer dies, its
//! messages are cut out of the body and need not be read again.

use std::ops::Range;

use crate::described;
use crate::frame::{self, FRAME_HEADER_BYTES};
use crate::Form;

/// Bytes before the packet's id.
pub const RECORD_HEADER_BYTES: usize = 16;
/// Bytes before a single frame.
pub const WRAPPED_HEADER_BYTES: usize = 8;
/// In place of a number of messages: the frame's payload is a message as JSON.
const PIECE: usize = u32::MAX as usize;
/// In place of a number of messages: the frame's payload is an entry of Fluent Forward behind its tag.
const ENTRY: usize = PIECE - 1;
/// Bytes before an entry's tag: how long that is.
pub const TAG_LENGTH_BYTES: usize = 2;
/// The same: the frame is a described one.
const ABOUT: usize = PIECE - 2;
const HEADER_BYTES: usize = FRAME_HEADER_BYTES as usize;

/// One record, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    kind: Kind<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind<'a> {
    Raw(&'a [u8]),
    Piece(&'a [u8]),
    Entry(&'a [u8]),
    Described(&'a [u8]),
    Packet {
        hops: u8,
        packet_id: &'a str,
        emitter_id: &'a str,
        headers: &'a [u8],
        body: &'a [u8],
        first_message: usize,
    },
}

impl<'a> Record<'a> {
    /// The record that starts `bytes`, and what follows it. `None` when it is incomplete or none.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Option<(Record<'a>, &'a [u8])> {
        let (record, rest) = bytes.split_at_checked(word(bytes, 0)?)?;
        let messages = word(record, 4)?;
        if matches!(messages, 0 | PIECE | ENTRY | ABOUT) {
            let frame = record.get(WRAPPED_HEADER_BYTES..)?;
            (word(frame, 0)? == frame.len() && frame.len() >= HEADER_BYTES).then_some(())?;
            let kind = match messages {
                PIECE => Kind::Piece(frame),
                ENTRY => Kind::Entry(frame),
                ABOUT => Kind::Described(frame),
                _ => Kind::Raw(frame),
            };
            return Some((Record { kind }, rest));
        }
        Some((Record::packet(record, messages)?, rest))
    }

    /// A record of a packet, which nobody reads a million times a second.
    #[inline(never)]
    fn packet(record: &'a [u8], messages: usize) -> Option<Record<'a>> {
        let behind = record.get(RECORD_HEADER_BYTES..)?;
        let (packet_id, behind) = behind.split_at_checked(usize::from(*record.get(9)?))?;
        let (emitter_id, behind) = behind.split_at_checked(half(record, 10)?)?;
        let (headers, body) = behind.split_at_checked(messages.checked_mul(HEADER_BYTES)?)?;
        let kind = Kind::Packet {
            hops: *record.get(8)?,
            packet_id: std::str::from_utf8(packet_id).ok()?,
            emitter_id: std::str::from_utf8(emitter_id).ok()?,
            headers,
            body,
            first_message: word(record, 12)?,
        };
        Some(Record { kind })
    }

    /// Messages in it, at least 1.
    #[inline]
    pub fn messages(&self) -> usize {
        match self.kind {
            Kind::Raw(_) | Kind::Piece(_) | Kind::Entry(_) | Kind::Described(_) => 1,
            Kind::Packet { headers, .. } => headers.len() / HEADER_BYTES,
        }
    }

    /// The frame, if it is one.
    pub fn frame(&self) -> Option<&'a [u8]> {
        match self.kind {
            Kind::Raw(frame) | Kind::Piece(frame) | Kind::Entry(frame) | Kind::Described(frame) => {
                Some(frame)
            }
            Kind::Packet { .. } => None,
        }
    }

    /// Severity, form and payload of a single message that says nothing of where it came from: of nearly all records.
    #[inline]
    pub fn single(&self) -> Option<(u8, Form, &'a [u8])> {
        let (form, frame) = match self.kind {
            Kind::Raw(frame) => (Form::Raw, frame),
            Kind::Piece(frame) => (Form::Json, frame),
            Kind::Entry(frame) => (Form::Entry, frame),
            Kind::Described(_) | Kind::Packet { .. } => return None,
        };
        let ([.., severity], payload) = frame.split_first_chunk::<HEADER_BYTES>()?;
        Some((*severity, form, payload))
    }

    /// What the payloads of its frames are: of a packet, and of a message that was cut out of one, JSON as Weir
    /// writes it.
    pub fn form(&self) -> Form {
        match self.kind {
            Kind::Raw(_) => Form::Raw,
            Kind::Entry(_) => Form::Entry,
            Kind::Described(frame) => match described::read(frame) {
                Some((Some(about), ..)) if about.kind == described::Kind::Json => Form::Json,
                _ => Form::Raw,
            },
            Kind::Piece(_) | Kind::Packet { .. } => Form::Json,
        }
    }

    /// Whether its frame is a described one.
    pub fn is_described(&self) -> bool {
        matches!(self.kind, Kind::Described(_))
    }

    /// Distributors that the packet came through.
    pub fn hops(&self) -> u8 {
        match self.kind {
            Kind::Raw(_) | Kind::Piece(_) | Kind::Entry(_) | Kind::Described(_) => 0,
            Kind::Packet { hops, .. } => hops,
        }
    }

    /// Id of the packet.
    pub fn packet_id(&self) -> Option<&'a str> {
        match self.kind {
            Kind::Raw(_) | Kind::Piece(_) | Kind::Entry(_) | Kind::Described(_) => None,
            Kind::Packet { packet_id, .. } => Some(packet_id),
        }
    }

    /// Who sent the packet: no control characters, so that it can be a header's value.
    pub fn emitter_id(&self) -> Option<&'a str> {
        match self.kind {
            Kind::Raw(_) | Kind::Piece(_) | Kind::Entry(_) | Kind::Described(_) => None,
            Kind::Packet { emitter_id, .. } => Some(emitter_id),
        }
    }

    /// The JSON to be POSTed.
    #[inline]
    pub fn body(&self) -> Option<&'a [u8]> {
        match self.kind {
            Kind::Raw(_) | Kind::Piece(_) | Kind::Entry(_) | Kind::Described(_) => None,
            Kind::Packet { body, .. } => Some(body),
        }
    }

    /// Appends some of its messages as a record of its own, 0 being the first: the same packet under
    /// another id, always the same for the same part, and another `size`. All of them: the record as it is.
    /// A frame is its only part.
    pub fn write_part(&self, part: Range<usize>, out: &mut Vec<u8>) {
        let Kind::Packet {
            hops,
            packet_id,
            emitter_id,
            headers,
            body,
            first_message,
        } = self.kind
        else {
            return match self.kind {
                Kind::Piece(frame) => wrap_frame(Form::Json, frame, out),
                Kind::Entry(frame) => wrap_frame(Form::Entry, frame, out),
                Kind::Described(frame) => wrap_described(frame, out),
                _ => wrap_frame(Form::Raw, self.frame().unwrap_or_default(), out),
            };
        };
        let is_whole = part == (0..self.messages());
        let lengths = |headers: &[u8]| -> usize {
            let lengths = headers.chunks_exact(HEADER_BYTES);
            let bytes = |header: &[u8]| word(header, 0).unwrap_or_default() - HEADER_BYTES;
            lengths.map(|header| bytes(header) + 1).sum()
        };
        let (before, rest) = headers.split_at(part.start * HEADER_BYTES);
        let mine = &rest[..part.len() * HEADER_BYTES];
        let from = first_message + lengths(before);
        let to = from + lengths(mine) - 1;
        let close = &body[first_message + lengths(headers) - 1..];
        let id = match is_whole {
            true => packet_id.to_owned(),
            false => range_id(packet_id, &part),
        };
        let start = out.len();
        out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(emitter_id.as_bytes());
        out.extend_from_slice(mine);
        let body_at = out.len();
        out.extend_from_slice(&body[..first_message]);
        let id_at = body_at + BODY_OPEN.len();
        out[id_at..id_at + id.len()].copy_from_slice(id.as_bytes());
        out.extend_from_slice(&body[from..to]);
        write_close(close, part.len(), out);
        let header = Header {
            total: out.len() - start,
            messages: part.len(),
            hops,
            packet_id: id.len(),
            emitter_id: emitter_id.len(),
            first_message,
        };
        out[start..start + RECORD_HEADER_BYTES].copy_from_slice(&header.encode());
    }

    /// Its messages one by one: severity, form and payload.
    #[inline]
    pub fn each(&self, mut take: impl FnMut(u8, Form, &'a [u8])) {
        let (headers, body, first_message) = match self.kind {
            Kind::Raw(frame) | Kind::Piece(frame) | Kind::Entry(frame) => {
                if let Some((header, payload)) = frame.split_at_checked(HEADER_BYTES) {
                    take(header[HEADER_BYTES - 1], self.form(), payload);
                }
                return;
            }
            Kind::Described(frame) => {
                if let Some((_, severity, payload)) = described::read(frame) {
                    take(severity, self.form(), payload);
                }
                return;
            }
            Kind::Packet {
                headers,
                body,
                first_message,
                ..
            } => (headers, body, first_message),
        };
        for (header, message) in messages_of(headers, body, first_message) {
            take(header[HEADER_BYTES - 1], Form::Json, message);
        }
    }

    /// Appends its messages as frames: what the packet itself would have written, or the
    /// frame without its description. A record that is not one of ours appends what it can.
    pub fn write_frames(&self, out: &mut Vec<u8>) {
        let (headers, body, first_message) = match self.kind {
            Kind::Raw(frame) | Kind::Piece(frame) => return out.extend_from_slice(frame),
            Kind::Entry(frame) => {
                debug_assert!(false, "it is rendered before");
                return out.extend_from_slice(frame);
            }
            Kind::Described(frame) => {
                described::strip(frame, out);
                return;
            }
            Kind::Packet {
                headers,
                body,
                first_message,
                ..
            } => (headers, body, first_message),
        };
        for (header, message) in messages_of(headers, body, first_message) {
            out.extend_from_slice(header);
            out.extend_from_slice(message);
        }
    }
}

/// Messages of a packet with their headers, the first at this offset of the body, a comma between two. It ends where the
/// body does.
fn messages_of<'a>(
    headers: &'a [u8],
    body: &'a [u8],
    first_message: usize,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let headers = headers.chunks_exact(HEADER_BYTES);
    headers.scan(first_message, |at, header| {
        let bytes = word(header, 0).unwrap_or_default();
        let end = at.saturating_add(bytes.saturating_sub(HEADER_BYTES));
        let message = body.get(*at..end)?;
        *at = end + 1;
        Some((header, message))
    })
}

/// What stands before the packet's id in a body, and between its messages and their number.
const BODY_OPEN: &[u8] = b"{\"id\":\"";
const METADATA: &[u8] = b"],\"metadata\":";
const SIZE: &[u8] = b",\"size\":";

/// Bytes of a record that tell how many messages it has.
pub const RECORD_COUNT_BYTES: usize = 8;

/// Messages of the record that starts with these bytes, at least [`RECORD_COUNT_BYTES`].
pub fn record_messages(head: &[u8]) -> u64 {
    match word(head, 4) {
        None | Some(0 | PIECE | ENTRY | ABOUT) => 1,
        Some(count) => count as u64, // from a u32
    }
}

/// The id of a part of a packet that begins with message `first`, 0 being the packet's first: its last eight digits
/// differ from the packet's, and from those of parts that begin with other messages.
pub fn part_id<const N: usize>(packet_id: &[u8; N], first: usize) -> [u8; N] {
    let mut id = *packet_id;
    let at = N.saturating_sub(8);
    let text = std::str::from_utf8(&id[at..]).unwrap_or_default();
    let digits = u32::from_str_radix(text, 16).unwrap_or_default();
    let low = u32::try_from(first & 0xffff_ffff).unwrap_or_default(); // any bits do
                                                                      // Odd, so that no two numbers become one; and no number but the last becomes 0.
    let mixed = digits ^ low.wrapping_add(1).wrapping_mul(0xc2b2_ae35);
    let text = format!("{mixed:08x}");
    id[at..].copy_from_slice(&text.as_bytes()[text.len() - (N - at)..]);
    id
}

/// The same of a range of a record's messages.
fn range_id(packet_id: &str, part: &Range<usize>) -> String {
    let (start, digits) = packet_id.split_at(packet_id.len().saturating_sub(8));
    let digits = u32::from_str_radix(digits, 16).unwrap_or_default();
    let mix = |number: usize, factor: u32| {
        let low = u32::try_from(number & 0xffff_ffff).unwrap_or_default(); // any bits do
        low.wrapping_mul(factor)
    };
    let mixed = digits ^ mix(part.start, 0x9e37_79b1) ^ mix(part.end, 0x85eb_ca77);
    format!("{start}{mixed:08x}")
}

/// What stands behind the last message of a packet, with another number of them.
fn write_close(close: &[u8], messages: usize, out: &mut Vec<u8>) {
    let metadata = close.get(METADATA.len()..).unwrap_or_default();
    let size_at = METADATA.len() + value_bytes(metadata) + SIZE.len();
    let digits = close.get(size_at..).unwrap_or_default();
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let digits = digits.count();
    debug_assert!(digits > 0, "a packet that Weir wrote");
    out.extend_from_slice(&close[..size_at.min(close.len())]);
    out.extend_from_slice(messages.to_string().as_bytes());
    out.extend_from_slice(close.get(size_at + digits..).unwrap_or_default());
}

/// Bytes of the JSON value that starts here: one that was parsed when it came in.
fn value_bytes(json: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut in_string = false;
    let mut is_escaped = false;
    for (at, byte) in json.iter().enumerate() {
        if in_string {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    in_string = false;
                    if depth == 0 {
                        return at + 1;
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at + depth,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
    }
    json.len()
}

/// Appends a frame whose payload is of this form as a record.
pub fn wrap_frame(form: Form, frame: &[u8], out: &mut Vec<u8>) {
    wrap_parts(form, &[], frame, out);
}

/// Appends a described frame as a record.
pub fn wrap_described(frame: &[u8], out: &mut Vec<u8>) {
    let total = WRAPPED_HEADER_BYTES + frame.len();
    out.extend_from_slice(&u32_of(total).to_be_bytes());
    out.extend_from_slice(&u32_of(ABOUT).to_be_bytes());
    out.extend_from_slice(frame);
}

/// The same of a frame in two parts, its header and its payload, or nothing and all of it.
pub fn wrap_parts(form: Form, header: &[u8], bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&wrapped_header(form, header.len() + bytes.len()));
    out.extend_from_slice(header);
    out.extend_from_slice(bytes);
}

/// What stands before a frame of so many bytes, so that it is a record.
#[inline]
pub fn wrapped_header(form: Form, frame_bytes: usize) -> [u8; WRAPPED_HEADER_BYTES] {
    let kind = match form {
        Form::Raw => 0,
        Form::Json => PIECE,
        Form::Entry => ENTRY,
    };
    let mut header = [0; WRAPPED_HEADER_BYTES];
    header[..4].copy_from_slice(&u32_of(WRAPPED_HEADER_BYTES + frame_bytes).to_be_bytes());
    header[4..].copy_from_slice(&u32_of(kind).to_be_bytes());
    header
}

/// What stands before the tag of an entry. `None`: a tag of 64 KiB and more has no place.
#[inline]
pub fn tag_length(tag: &[u8]) -> Option<[u8; TAG_LENGTH_BYTES]> {
    Some(u16::try_from(tag.len()).ok()?.to_be_bytes())
}

/// Tag and entry of a payload of [`Form::Entry`]; the entry is its time and its record as MessagePack, one behind the
/// other. `None`: it is none.
#[inline]
pub fn split_entry(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let behind = payload.get(TAG_LENGTH_BYTES..)?;
    behind.split_at_checked(half(payload, 0)?)
}

/// Lengths at the start of a packet's record, in bytes but `messages`.
pub struct Header {
    /// The record.
    pub total: usize,
    /// How many there are.
    pub messages: usize,
    /// Distributors that the packet came through; no length.
    pub hops: u8,
    /// The packet's id.
    pub packet_id: usize,
    /// The emitter's id.
    pub emitter_id: usize,
    /// Offset of the first message in the body.
    pub first_message: usize,
}

impl Header {
    /// As it stands in a record.
    ///
    /// # Panics
    /// At lengths that limits of bodies, frames and ids exclude.
    pub fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&u32_of(self.total).to_be_bytes());
        bytes[4..8].copy_from_slice(&u32_of(self.messages).to_be_bytes());
        bytes[8] = self.hops;
        bytes[9] = u8_of(self.packet_id);
        bytes[10..12].copy_from_slice(&u16_of(self.emitter_id).to_be_bytes());
        bytes[12..16].copy_from_slice(&u32_of(self.first_message).to_be_bytes());
        bytes
    }
}

/// Header of a frame with so many bytes in all.
///
/// # Panics
/// At 4 GiB, which limits of bodies and of frames exclude.
#[inline]
pub fn frame_header(frame_bytes: usize, severity: u8) -> [u8; HEADER_BYTES] {
    frame::encode_header(u32_of(frame_bytes - HEADER_BYTES), severity)
}

/// # Panics
/// At 4 GiB, which limits of bodies and of frames exclude.
fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("limits keep records below 4 GiB")
}

/// # Panics
/// At 256: the id of a packet is a UUID.
fn u8_of(bytes: usize) -> u8 {
    u8::try_from(bytes).expect("ids of packets are short")
}

/// # Panics
/// At 64 KiB, which the limits of ids exclude.
fn u16_of(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("ids are below 64 KiB")
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*word)).ok()
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    let half = bytes.get(at..)?.first_chunk::<2>()?;
    Some(usize::from(u16::from_be_bytes(*half)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn raw_frames_come_back_byte_for_byte() {
        let frame = [0, 0, 0, 7, 1, b'h', b'i'];
        let mut out = Vec::new();
        wrap_frame(Form::Raw, &frame, &mut out);
        assert_eq!(out, [&[0, 0, 0, 15, 0, 0, 0, 0][..], &frame].concat());
        for cut in 0..out.len() {
            assert_eq!(Record::parse(&out[..cut]), None);
        }
        out.push(9);
        let (record, rest) = Record::parse(&out).expect("a record");
        assert_eq!(
            (rest, record.messages(), record.frame()),
            (&[9][..], 1, Some(&frame[..]))
        );
        assert_eq!(
            (record.packet_id(), record.emitter_id(), record.body()),
            (None, None, None)
        );
        let mut again = Vec::new();
        record.write_frames(&mut again);
        assert_eq!(again, frame);
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(mut bytes in proptest::collection::vec(0..40_u8, 0..80), raw: bool) {
            let total = u32_of(bytes.len());
            if let Some(word) = bytes.first_chunk_mut::<4>() {
                *word = total.to_be_bytes();
            }
            if let Some(word) = bytes.get_mut(4..8) {
                word.copy_from_slice(&[0, 0, 0, u8::from(!raw) * 2]);
            }
            if let Some((record, rest)) = Record::parse(&bytes) {
                let mut out = Vec::new();
                record.write_frames(&mut out);
                prop_assert!(rest.is_empty() && out.len() <= bytes.len());
            }
        }
    }
}
