//! The native link protocol, version 1: one link per analyzer and shard, messages in batches.
//!
//! ```text
//!   analyzer                                  distributor
//!     HELLO  magic version shard weight id  -->
//!                              <--  WELCOME  magic version status shards instance epoch
//!                              <--  BATCH    32-byte header, then `count` frames
//!     ACK u64 / WEIGHT f64 / DRAIN          -->            (see control.rs)
//!                              <--  DRAIN    ACK at once, the distributor shuts down
//!     GOODBYE u64                           -->
//!                              <--  GOODBYE  this link is over
//! ```
//!
//! All integers are big-endian. Senders write zero into reserved fields, receivers ignore them;
//! unknown flags are an error, because a flag may change how the bytes after it are read.

use super::frame::{self, FrameError, FRAME_HEADER_BYTES};
use super::{take, valid_weight, Partial};
use std::fmt;

/// "WEIR" with the top bit of its first byte set, so that it is neither dialect's first weight.
pub const MAGIC: [u8; 4] = [0xD7, 0x45, 0x49, 0x52];
/// Version of this document.
pub const VERSION: u8 = 1;
/// HELLO without its id.
pub const HELLO_BYTES: usize = 32;
/// WELCOME without its reason.
pub const WELCOME_BYTES: usize = 32;
/// BATCH without its body.
pub const BATCH_HEADER_BYTES: usize = 32;
/// Longest analyzer id.
pub const ID_BYTES_MAX: u16 = 255;
/// A native analyzer ACKs what it has processed within this time, also when idle.
pub const ACK_DELAY_MS_MAX: u64 = 1_000;

const HELLO_BYTES_MAX: usize = HELLO_BYTES + ID_BYTES_MAX as usize;
const SHARD_ANY: u16 = u16::MAX;
const STATUS_OK: u8 = 0;
const STATUS_REFUSED: u8 = 1;
const KIND_BATCH: u8 = 0x10;
const KIND_DRAIN: u8 = 0x11;
const KIND_GOODBYE: u8 = 0x12;
const FLAG_REDELIVERED: u8 = 1;
/// Origin sequence before each frame of a redelivered batch.
pub const ORIGIN_BYTES: usize = 8;

/// What breaks a native link. Distributor: refuse or close, re-route. Analyzer: close, reconnect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NativeError {
    /// Does not start with [`MAGIC`].
    Magic,
    /// A version that this build does not speak.
    Version(u8),
    /// Flags that this version does not know.
    Flags(u8),
    /// A HELLO weight that is NaN, infinite or negative.
    Weight(f64),
    /// An id of no or too many bytes.
    IdLength(u16),
    /// An id that is not UTF-8.
    IdText,
    /// A WELCOME status that this version does not know.
    Status(u8),
    /// A distributor word of unknown type.
    UnknownType(u8),
    /// A batch header whose count and size cannot both be true.
    BatchSize {
        /// Messages announced.
        count: u32,
        /// Bytes announced.
        body_bytes: u32,
    },
    /// A batch that does not go on where the last one on its link ended.
    BatchSequence {
        /// Number that the next message of the link has.
        expected: u64,
        /// Number announced.
        found: u64,
    },
    /// A bad frame inside a batch.
    Frame(FrameError),
    /// A batch body that ends within a frame or goes on after the last.
    BatchBody,
}

impl NativeError {
    /// Metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Magic => "native_magic",
            Self::Version(_) => "native_version",
            Self::Flags(_) => "native_flags",
            Self::Weight(_) => "first_weight_invalid",
            Self::IdLength(_) => "native_id_length",
            Self::IdText => "native_id_text",
            Self::Status(_) => "native_status",
            Self::UnknownType(_) => "native_unknown_type",
            Self::BatchSize { .. } => "native_batch_size",
            Self::BatchSequence { .. } => "native_batch_sequence",
            Self::Frame(error) => error.as_str(),
            Self::BatchBody => "native_batch_body",
        }
    }
}

impl fmt::Display for NativeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => write!(f, "not a native link: wrong magic"),
            Self::Version(v) => write!(f, "protocol version {v}, this build speaks {VERSION}"),
            Self::Flags(flags) => write!(f, "unknown flags {flags:#04x}"),
            Self::Weight(weight) => write!(f, "weight {weight} is not a finite number >= 0"),
            Self::IdLength(n) => write!(f, "analyzer id of {n} bytes, 1 to {ID_BYTES_MAX} allowed"),
            Self::IdText => write!(f, "analyzer id is not UTF-8"),
            Self::Status(status) => write!(f, "unknown WELCOME status {status}"),
            Self::UnknownType(byte) => write!(f, "unknown message type {byte:#04x}"),
            Self::BatchSize { count, body_bytes } => {
                write!(
                    f,
                    "a batch of {count} messages cannot have {body_bytes} bytes"
                )
            }
            Self::BatchSequence { expected, found } => {
                write!(
                    f,
                    "a batch starts at message {found}, message {expected} is next"
                )
            }
            Self::Frame(error) => write!(f, "in a batch: {error}"),
            Self::BatchBody => write!(f, "batch body and its frames end at different places"),
        }
    }
}

impl std::error::Error for NativeError {}

/// First message of an analyzer on a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hello<'a> {
    /// Shard this link is for; `None`: any.
    pub shard: Option<u16>,
    /// Weight of the analyzer, the same on all its links.
    pub weight: f64,
    /// Most bytes it wants un-ACKed on this link; 0: no wish.
    pub window_bytes: u64,
    /// Most messages it wants un-ACKed on this link; 0: no wish.
    pub window_messages: u32,
    /// Name of the analyzer, the same on all its links.
    pub id: &'a str,
}

impl<'a> Hello<'a> {
    /// Appends the wire form to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), NativeError> {
        let id_bytes = u16::try_from(self.id.len()).unwrap_or(u16::MAX);
        if !(1..=ID_BYTES_MAX).contains(&id_bytes) {
            return Err(NativeError::IdLength(id_bytes));
        }
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&self.shard.unwrap_or(SHARD_ANY).to_be_bytes());
        out.extend_from_slice(&self.weight.to_be_bytes());
        out.extend_from_slice(&self.window_bytes.to_be_bytes());
        out.extend_from_slice(&self.window_messages.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&id_bytes.to_be_bytes());
        out.extend_from_slice(self.id.as_bytes());
        Ok(())
    }

    /// The HELLO at the start of `buf` and its length; `None` while it is incomplete. A wrong start
    /// is an error as soon as it can be seen.
    pub fn decode(buf: &'a [u8]) -> Result<Option<(Self, usize)>, NativeError> {
        check_start(buf)?;
        let Some((fixed, tail)) = buf.split_first_chunk::<HELLO_BYTES>() else {
            return Ok(None);
        };
        let (shard, weight, window_bytes, window_messages, id_bytes) = hello_fields(fixed);
        if fixed[5] != 0 {
            return Err(NativeError::Flags(fixed[5]));
        }
        let weight = valid_weight(weight).ok_or(NativeError::Weight(weight))?;
        if !(1..=ID_BYTES_MAX).contains(&id_bytes) {
            return Err(NativeError::IdLength(id_bytes));
        }
        let Some(id) = tail.get(..usize::from(id_bytes)) else {
            return Ok(None);
        };
        let id = std::str::from_utf8(id).map_err(|_| NativeError::IdText)?;
        let shard = (shard != SHARD_ANY).then_some(shard);
        let hello = Hello {
            shard,
            weight,
            window_bytes,
            window_messages,
            id,
        };
        Ok(Some((hello, HELLO_BYTES + id.len())))
    }
}

/// Magic and version, checked on as many of their bytes as are there.
fn check_start(buf: &[u8]) -> Result<(), NativeError> {
    let there = buf.len().min(MAGIC.len());
    if buf[..there] != MAGIC[..there] {
        return Err(NativeError::Magic);
    }
    match buf.get(MAGIC.len()) {
        Some(&version) if version != VERSION => Err(NativeError::Version(version)),
        _ => Ok(()),
    }
}

fn hello_fields(fixed: &[u8; HELLO_BYTES]) -> (u16, f64, u64, u32, u16) {
    (
        u16::from_be_bytes(field(fixed, 6)),
        f64::from_be_bytes(field(fixed, 8)),
        u64::from_be_bytes(field(fixed, 16)),
        u32::from_be_bytes(field(fixed, 24)),
        u16::from_be_bytes(field(fixed, 30)),
    )
}

/// `N` bytes of a 32-byte header at the constant offset `at`.
#[inline]
fn field<const N: usize>(header: &[u8; 32], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

/// Collects a HELLO that arrives in pieces, inline.
#[derive(Clone, Debug)]
pub struct HelloReader {
    held: Partial<HELLO_BYTES_MAX>,
}

impl Default for HelloReader {
    fn default() -> Self {
        Self {
            held: Partial::new(),
        }
    }
}

impl HelloReader {
    /// Takes HELLO bytes off `bytes`, and not one more: what is left is control data. `None`: read
    /// more.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Result<Hello<'_>, NativeError>> {
        if let Err(error) = self.collect(bytes)? {
            return Some(Err(error));
        }
        Hello::decode(self.held.filled())
            .map(|found| found.map(|(hello, _)| hello))
            .transpose()
    }

    /// `None` while the HELLO is incomplete.
    fn collect(&mut self, bytes: &mut &[u8]) -> Option<Result<(), NativeError>> {
        let fixed = self.held.fill(bytes, HELLO_BYTES);
        if let Err(error) = Hello::decode(self.held.filled()) {
            return Some(Err(error));
        }
        if !fixed {
            return None;
        }
        let id_bytes = u16::from_be_bytes([self.held.bytes[30], self.held.bytes[31]]);
        let total = HELLO_BYTES + usize::from(id_bytes.min(ID_BYTES_MAX));
        self.held.fill(bytes, total).then_some(Ok(()))
    }
}

/// First message of the distributor on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// Why not; `None`: accepted.
    pub refused: Option<&'a str>,
    /// Shards of this distributor: an analyzer opens a link to each.
    pub shard_count: u16,
    /// Shard at the other end of this link.
    pub shard_index: u16,
    /// Random number of this run of the distributor: another one means it was restarted.
    pub instance: u64,
    /// Names this link among all links of this instance.
    pub link_epoch: u64,
}

impl<'a> Welcome<'a> {
    /// Appends the wire form to `out`. A reason longer than a u16 counts is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let reason = self.refused.unwrap_or_default();
        let reason = &reason[..reason.floor_char_boundary_at(usize::from(u16::MAX))];
        let reason_bytes = u16::try_from(reason.len()).unwrap_or(u16::MAX);
        let status = if self.refused.is_some() {
            STATUS_REFUSED
        } else {
            STATUS_OK
        };
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, status]);
        out.extend_from_slice(&self.shard_count.to_be_bytes());
        out.extend_from_slice(&self.shard_index.to_be_bytes());
        out.extend_from_slice(&reason_bytes.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.instance.to_be_bytes());
        out.extend_from_slice(&self.link_epoch.to_be_bytes());
        out.extend_from_slice(reason.as_bytes());
    }

    /// The WELCOME at the start of `buf` and its length; `None` while it is incomplete.
    pub fn decode(buf: &'a [u8]) -> Result<Option<(Self, usize)>, NativeError> {
        check_start(buf)?;
        let Some((fixed, tail)) = buf.split_first_chunk::<WELCOME_BYTES>() else {
            return Ok(None);
        };
        let reason_bytes = usize::from(u16::from_be_bytes(field(fixed, 10)));
        let Some(reason) = tail.get(..reason_bytes) else {
            return Ok(None);
        };
        let refused = match fixed[5] {
            STATUS_OK => None,
            STATUS_REFUSED => Some(std::str::from_utf8(reason).unwrap_or("reason is not UTF-8")),
            status => return Err(NativeError::Status(status)),
        };
        let welcome = Welcome {
            refused,
            shard_count: u16::from_be_bytes(field(fixed, 6)),
            shard_index: u16::from_be_bytes(field(fixed, 8)),
            instance: u64::from_be_bytes(field(fixed, 16)),
            link_epoch: u64::from_be_bytes(field(fixed, 24)),
        };
        Ok(Some((welcome, WELCOME_BYTES + reason_bytes)))
    }
}

/// `str::floor_char_boundary` is newer than the oldest toolchain supported.
trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, at: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, at: usize) -> usize {
        (0..=at.min(self.len()))
            .rev()
            .find(|&i| self.is_char_boundary(i))
            .unwrap_or(0)
    }
}

/// Header of a batch; `count` frames follow in `body_bytes` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// These messages were sent before, on another link; each frame is preceded by its origin
    /// sequence.
    pub redelivered: bool,
    /// Shard that first sent these messages.
    pub origin_shard: u16,
    /// Frames in the body, at least 1.
    pub count: u32,
    /// Bytes of the body, origin sequences included.
    pub body_bytes: u32,
    /// Sequence of the first message on this link: what ACKs count.
    pub first_sequence: u64,
    /// Epoch of the link that these messages were first sent on.
    pub origin_epoch: u64,
}

impl BatchHeader {
    /// The wire form.
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        out[0] = KIND_BATCH;
        out[1] = if self.redelivered {
            FLAG_REDELIVERED
        } else {
            0
        };
        out[2..4].copy_from_slice(&self.origin_shard.to_be_bytes());
        out[4..8].copy_from_slice(&self.count.to_be_bytes());
        out[8..12].copy_from_slice(&self.body_bytes.to_be_bytes());
        out[16..24].copy_from_slice(&self.first_sequence.to_be_bytes());
        out[24..32].copy_from_slice(&self.origin_epoch.to_be_bytes());
        out
    }

    /// Reads and checks a header.
    pub fn decode(bytes: &[u8; BATCH_HEADER_BYTES]) -> Result<Self, NativeError> {
        if bytes[0] != KIND_BATCH {
            return Err(NativeError::UnknownType(bytes[0]));
        }
        if bytes[1] & !FLAG_REDELIVERED != 0 {
            return Err(NativeError::Flags(bytes[1]));
        }
        let header = Self {
            redelivered: bytes[1] & FLAG_REDELIVERED != 0,
            origin_shard: u16::from_be_bytes(field(bytes, 2)),
            count: u32::from_be_bytes(field(bytes, 4)),
            body_bytes: u32::from_be_bytes(field(bytes, 8)),
            first_sequence: u64::from_be_bytes(field(bytes, 16)),
            origin_epoch: u64::from_be_bytes(field(bytes, 24)),
        };
        if header.count == 0 || u64::from(header.body_bytes) < header.body_bytes_min() {
            let Self {
                count, body_bytes, ..
            } = header;
            return Err(NativeError::BatchSize { count, body_bytes });
        }
        Ok(header)
    }

    fn body_bytes_min(&self) -> u64 {
        let origin = if self.redelivered {
            ORIGIN_BYTES as u64
        } else {
            0
        };
        u64::from(self.count) * (u64::from(FRAME_HEADER_BYTES) + origin)
    }
}

/// What the distributor says after its WELCOME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkWord {
    /// A batch; its body follows.
    Batch(BatchHeader),
    /// The distributor shuts down: ACK at once everything processed.
    Drain,
    /// The distributor has nothing more for this link.
    Goodbye,
}

impl LinkWord {
    /// The word at the start of `buf` and its length without a batch's body; `None`: read more.
    #[inline]
    pub fn decode(buf: &[u8]) -> Result<Option<(Self, usize)>, NativeError> {
        match buf.first() {
            None => Ok(None),
            Some(&KIND_DRAIN) => Ok(Some((Self::Drain, 1))),
            Some(&KIND_GOODBYE) => Ok(Some((Self::Goodbye, 1))),
            Some(&KIND_BATCH) => match buf.first_chunk::<BATCH_HEADER_BYTES>() {
                None => Ok(None),
                Some(header) => {
                    let header = BatchHeader::decode(header)?;
                    Ok(Some((Self::Batch(header), BATCH_HEADER_BYTES)))
                }
            },
            Some(&byte) => Err(NativeError::UnknownType(byte)),
        }
    }
}

/// The distributor's one-byte DRAIN.
pub const DRAIN: [u8; 1] = [KIND_DRAIN];
/// The distributor's one-byte GOODBYE.
pub const GOODBYE: [u8; 1] = [KIND_GOODBYE];

/// One message of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMessage<'a> {
    /// With the batch's `origin_epoch`: the message's identity, the same through every re-route.
    pub origin_sequence: u64,
    /// Header and payload.
    pub frame: &'a [u8],
}

/// Walks over the messages of a batch body, which may itself arrive in pieces.
#[derive(Clone, Debug)]
pub struct BatchCursor {
    redelivered: bool,
    left_count: u32,
    left_bytes: usize,
    next_sequence: u64,
    frame_bytes_max: u32,
}

impl BatchCursor {
    /// Starts behind `header`.
    pub fn new(header: &BatchHeader, frame_bytes_max: u32) -> Self {
        Self {
            redelivered: header.redelivered,
            left_count: header.count,
            left_bytes: header.body_bytes as usize,
            next_sequence: header.first_sequence,
            frame_bytes_max,
        }
    }

    /// Messages not yet taken; 0: the next byte is a new [`LinkWord`].
    pub fn left_count(&self) -> u32 {
        self.left_count
    }

    /// Takes the next message off `bytes`. `None`: incomplete, or the batch is over.
    #[inline]
    pub fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<BatchMessage<'a>>, NativeError> {
        if self.left_count == 0 {
            return Ok(None);
        }
        let mut rest = *bytes;
        let origin_sequence = match self.redelivered {
            false => self.next_sequence,
            true => match take(&mut rest) {
                Some(sequence) => u64::from_be_bytes(sequence),
                None => return Ok(None),
            },
        };
        let length = frame::peek(rest, self.frame_bytes_max).map_err(NativeError::Frame)?;
        let Some(length) = length else {
            return Ok(None);
        };
        let used = bytes.len() - rest.len() + length;
        let is_last = self.left_count == 1;
        if used > self.left_bytes || (is_last && used != self.left_bytes) {
            return Err(NativeError::BatchBody);
        }
        let Some((frame, rest)) = rest.split_at_checked(length) else {
            return Ok(None);
        };
        *bytes = rest;
        self.left_count -= 1;
        self.left_bytes -= used;
        self.next_sequence = self.next_sequence.wrapping_add(1);
        Ok(Some(BatchMessage {
            origin_sequence,
            frame,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: Hello<'static> = Hello {
        shard: Some(3),
        weight: 0.4,
        window_bytes: 1 << 20,
        window_messages: 4096,
        id: "analyzer-1",
    };

    fn hello_bytes() -> Vec<u8> {
        let mut out = Vec::new();
        HELLO.encode(&mut out).expect("valid");
        out
    }

    #[test]
    fn hello_round_trips_in_any_pieces() {
        let bytes = [hello_bytes(), vec![1, 2]].concat();
        assert_eq!(Hello::decode(&bytes), Ok(Some((HELLO, bytes.len() - 2))));
        for step in 1..bytes.len() {
            let mut reader = HelloReader::default();
            let mut found = None;
            let mut left = Vec::new();
            for mut chunk in bytes.chunks(step) {
                if found.is_none() {
                    found = reader
                        .next(&mut chunk)
                        .map(|r| r.map(|h| (h.shard, h.id.len())));
                }
                left.extend_from_slice(chunk);
            }
            assert_eq!(found, Some(Ok((Some(3), 10))));
            assert_eq!(left, [1, 2], "control data stays with the caller");
        }
    }

    #[test]
    fn bad_hellos_are_refused_early() {
        let patched = |at: usize, with: &[u8]| {
            let mut bytes = hello_bytes();
            bytes[at..at + with.len()].copy_from_slice(with);
            bytes
        };
        let decode = |bytes: &[u8]| Hello::decode(bytes).map(|_| ());
        assert_eq!(decode(&[0xD8]), Err(NativeError::Magic));
        assert_eq!(decode(&patched(4, &[2])[..5]), Err(NativeError::Version(2)));
        assert_eq!(decode(&patched(5, &[1])), Err(NativeError::Flags(1)));
        assert_eq!(decode(&patched(8, &[0xBF])), Err(NativeError::Weight(-0.4)));
        assert_eq!(decode(&patched(30, &[0, 0])), Err(NativeError::IdLength(0)));
        assert_eq!(
            decode(&patched(30, &[1, 0])),
            Err(NativeError::IdLength(256))
        );
        assert_eq!(decode(&patched(32, &[0xFF])), Err(NativeError::IdText));
        let mut reader = HelloReader::default();
        assert_eq!(reader.next(&mut &[0x80][..]), Some(Err(NativeError::Magic)));
    }

    #[test]
    fn welcome_round_trips() {
        let accepted = Welcome {
            refused: None,
            shard_count: 4,
            shard_index: 2,
            instance: 7,
            link_epoch: u64::MAX,
        };
        for welcome in [
            accepted,
            Welcome {
                refused: Some("draining"),
                ..accepted
            },
        ] {
            let mut bytes = Vec::new();
            welcome.encode(&mut bytes);
            assert_eq!(Welcome::decode(&bytes), Ok(Some((welcome, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(Welcome::decode(&bytes[..cut]), Ok(None));
            }
        }
    }

    #[test]
    fn a_reason_is_cut_on_a_character() {
        let reason = "é".repeat(40_000);
        let mut bytes = Vec::new();
        Welcome {
            refused: Some(&reason),
            shard_count: 1,
            shard_index: 0,
            instance: 0,
            link_epoch: 0,
        }
        .encode(&mut bytes);
        assert_eq!(bytes.len(), WELCOME_BYTES + 65_534);
        assert!(matches!(Welcome::decode(&bytes), Ok(Some(_))));
    }

    /// A batch of `payloads`, numbered from 100 on this link and from 500 at their origin.
    fn batch(redelivered: bool, payloads: &[&[u8]]) -> (BatchHeader, Vec<u8>) {
        let mut body = Vec::new();
        for (sequence, payload) in (500u64..).zip(payloads) {
            if redelivered {
                body.extend_from_slice(&sequence.to_be_bytes());
            }
            let length = u32::try_from(payload.len()).expect("short");
            body.extend_from_slice(&frame::encode_header(length, 2));
            body.extend_from_slice(payload);
        }
        let header = BatchHeader {
            redelivered,
            origin_shard: 1,
            count: u32::try_from(payloads.len()).expect("few"),
            body_bytes: u32::try_from(body.len()).expect("short"),
            first_sequence: 100,
            origin_epoch: 9,
        };
        (header, body)
    }

    #[test]
    fn batches_are_walked() {
        for (redelivered, first) in [(false, 100), (true, 500)] {
            let (header, body) = batch(redelivered, &[b"a", b"", b"ccc"]);
            assert_eq!(BatchHeader::decode(&header.encode()), Ok(header));
            let mut cursor = BatchCursor::new(&header, 1000);
            let mut rest = &body[..];
            for (sequence, bytes) in (first..).zip([6, 5, 8]) {
                let message = cursor.next(&mut rest).expect("valid").expect("whole");
                assert_eq!(
                    (message.origin_sequence, message.frame.len()),
                    (sequence, bytes)
                );
            }
            assert_eq!((cursor.left_count(), rest.len()), (0, 0));
            assert_eq!(cursor.next(&mut rest), Ok(None));
        }
    }

    #[test]
    fn incomplete_messages_stay() {
        let (header, body) = batch(true, &[b"abc"]);
        for cut in 0..body.len() {
            let mut cursor = BatchCursor::new(&header, 1000);
            let mut rest = &body[..cut];
            assert_eq!(cursor.next(&mut rest), Ok(None));
            assert_eq!((cursor.left_count(), rest.len()), (1, cut));
        }
    }

    #[test]
    fn lying_batches_are_caught() {
        let (header, body) = batch(false, &[b"abc", b"d"]);
        let walk = |header: &BatchHeader| {
            let mut cursor = BatchCursor::new(header, 1000);
            let mut rest = &body[..];
            while cursor.next(&mut rest)?.is_some() {}
            Ok(cursor.left_count())
        };
        assert_eq!(walk(&header), Ok(0));
        let body_bytes = header.body_bytes;
        for lie in [
            BatchHeader {
                body_bytes: body_bytes - 1,
                ..header
            },
            BatchHeader {
                body_bytes: body_bytes + 1,
                ..header
            },
            BatchHeader { count: 1, ..header },
        ] {
            assert_eq!(walk(&lie), Err(NativeError::BatchBody), "{lie:?}");
        }
        let (_, long) = batch(false, &[&[0; 50]]);
        let first_too_long = BatchCursor::new(&header, 1000).next(&mut &long[..]);
        assert_eq!(first_too_long, Err(NativeError::BatchBody));
        let empty = BatchHeader { count: 0, ..header };
        assert!(BatchHeader::decode(&empty.encode()).is_err());
        let dense = BatchHeader {
            count: u32::MAX,
            ..header
        };
        assert!(BatchHeader::decode(&dense.encode()).is_err());
    }

    #[test]
    fn link_words() {
        assert_eq!(LinkWord::decode(&DRAIN), Ok(Some((LinkWord::Drain, 1))));
        assert_eq!(LinkWord::decode(&GOODBYE), Ok(Some((LinkWord::Goodbye, 1))));
        assert_eq!(LinkWord::decode(&[]), Ok(None));
        assert_eq!(
            LinkWord::decode(&[0x13]),
            Err(NativeError::UnknownType(0x13))
        );
        let (header, _) = batch(false, &[b"a"]);
        let bytes = header.encode();
        assert_eq!(LinkWord::decode(&bytes[..31]), Ok(None));
        assert_eq!(
            LinkWord::decode(&bytes),
            Ok(Some((LinkWord::Batch(header), 32)))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let native = [&MAGIC[..], &[VERSION], &bytes].concat();
            let batch = [&[KIND_BATCH, 1], &bytes[..]].concat();
            let _ = (Hello::decode(&native), Welcome::decode(&native));
            let _ = HelloReader::default().next(&mut &native[..]).is_some();
            if let Ok(Some((LinkWord::Batch(header), used))) = LinkWord::decode(&batch) {
                let mut cursor = BatchCursor::new(&header, 1 << 20);
                let mut rest = &batch[used..];
                while let Ok(Some(_)) = cursor.next(&mut rest) {}
            }
        }
    }
}
