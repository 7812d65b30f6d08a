//! The wire formats, written from `docs/PROTOCOL.md` and from nothing else: a mistake in the product's own
//! codec does not hide itself here. All numbers are big-endian.
//!
//! ```text
//! frame     [u32 total_length][u8 severity][payload]
//! batch     [u8 10][u8 flags][u16 shard][u32 count][u32 body_bytes][u32 0][u64 first][u64 epoch] frames
//! ```

use std::fmt;

/// What an analyzer's link speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// As the reference document describes it.
    Typed,
    /// As the reference clients send it.
    Compact,
    /// Weir's own links.
    Native,
}

/// All of them.
pub const DIALECTS: [Dialect; 3] = [Dialect::Typed, Dialect::Compact, Dialect::Native];

/// Length word and severity of a frame.
pub const FRAME_HEADER_BYTES: usize = 5;
/// Longest frame unless a distributor is configured otherwise.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Start of HELLO and WELCOME.
pub const MAGIC: [u8; 4] = [0xD7, 0x45, 0x49, 0x52];
/// A WELCOME without its reason.
pub const WELCOME_BYTES: usize = 32;
/// A BATCH without its body.
pub const BATCH_HEADER_BYTES: usize = 32;
/// Word of the distributor: messages follow.
pub const BATCH: u8 = 0x10;
/// Word of the distributor: it shuts down, ACK what is done.
pub const DRAIN: u8 = 0x11;
/// Word of the distributor: it closes this link.
pub const GOODBYE: u8 = 0x12;
/// Flag of a BATCH: each frame has its first number in front.
const REDELIVERED: u8 = 1;

/// Bytes of the first number of a redelivered message.
pub const ORIGIN_BYTES: usize = 8;

const VERSION: u8 = 1;
const SHARD_ANY: u16 = u16::MAX;

/// A stream that cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// A frame's length word is under 5 or over the maximum.
    FrameLength(usize),
    /// A word of the distributor that the document does not know.
    UnknownWord(u8),
    /// Flags of a BATCH that the document does not know.
    BatchFlags(u8),
    /// The frames of a batch do not add up to its announced count and bytes.
    BatchBody,
    /// A batch does not go on where the last one ended: the number that it has.
    BatchSequence(u64),
    /// The answer to a HELLO is no WELCOME of version 1.
    NotWelcome,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameLength(n) => write!(f, "frame length {n} is not in 5..={FRAME_BYTES_MAX}"),
            Self::UnknownWord(word) => write!(f, "unknown native message type {word:#04x}"),
            Self::BatchFlags(flags) => write!(f, "unknown flags {flags:#04x} of a batch"),
            Self::BatchBody => write!(f, "batch body does not match its header"),
            Self::BatchSequence(n) => write!(f, "batch begins with message {n}, not with the next"),
            Self::NotWelcome => write!(f, "peer does not speak the native protocol, version 1"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<WireError> for std::io::Error {
    fn from(error: WireError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// A frame.
pub fn frame_of(severity: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(FRAME_HEADER_BYTES + payload.len()).expect("small");
    let mut frame = length.to_be_bytes().to_vec();
    frame.push(severity);
    frame.extend_from_slice(payload);
    frame
}

/// Length of the frame at the start of `bytes`; `None` while part of it is still to come.
///
/// # Errors
/// The length word is out of range.
pub fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some(word) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*word) as usize;
    if !(FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length) {
        return Err(WireError::FrameLength(length));
    }
    Ok((bytes.len() >= length).then_some(length))
}

/// First word of a reference client, HELLO of a native one.
pub fn first_word(dialect: Dialect, weight: f64, id: &str, shard: Option<u16>) -> Vec<u8> {
    match dialect {
        Dialect::Typed => weight.to_be_bytes().to_vec(),
        Dialect::Compact => (weight as f32).to_be_bytes().to_vec(),
        Dialect::Native => hello(VERSION, weight, id, shard),
    }
}

/// A HELLO of any version, without wishes, token and instance; `None`: any shard.
pub fn hello(version: u8, weight: f64, id: &str, shard: Option<u16>) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[version, 0]);
    out.extend_from_slice(&shard.unwrap_or(SHARD_ANY).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&[0; 8 + 4 + 2]);
    out.extend_from_slice(&u16::try_from(id.len()).expect("short").to_be_bytes());
    out.extend_from_slice(id.as_bytes());
    out
}

/// ACK of everything up to `sequence`.
pub fn ack(dialect: Dialect, sequence: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_ack(&mut out, dialect, sequence);
    out
}

/// Appends an ACK of everything up to `sequence`, wrapped as the dialect wraps it.
pub fn put_ack(out: &mut Vec<u8>, dialect: Dialect, sequence: u64) {
    let low = sequence as u32;
    match dialect {
        Dialect::Typed => {
            out.push(0);
            out.extend_from_slice(&low.to_be_bytes());
        }
        Dialect::Compact => out.extend_from_slice(&(low | 1 << 31).to_be_bytes()),
        Dialect::Native => {
            out.push(1);
            out.extend_from_slice(&sequence.to_be_bytes());
        }
    }
}

/// A change of weight.
pub fn weight(dialect: Dialect, weight: f64) -> Vec<u8> {
    match dialect {
        Dialect::Typed => [&[1][..], &(weight as f32).to_be_bytes()].concat(),
        Dialect::Compact => (weight as f32).to_be_bytes().to_vec(),
        Dialect::Native => [&[2][..], &weight.to_be_bytes()].concat(),
    }
}

/// A WELCOME without its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// 0 accepted, 1 refused.
    pub status: u8,
    /// Shards of this distributor.
    pub shard_count: u16,
    /// The shard at the other end.
    pub shard_index: u16,
    /// Bytes of text that follow: why it is refused.
    pub reason_bytes: u16,
    /// One run of the distributor.
    pub instance: u64,
    /// Names this link among all links of the instance.
    pub link_epoch: u64,
}

impl Welcome {
    /// Reads the fixed part.
    ///
    /// # Errors
    /// Magic, version or status is another.
    pub fn decode(bytes: &[u8; WELCOME_BYTES]) -> Result<Welcome, WireError> {
        if bytes[..4] != MAGIC || bytes[4] != VERSION || bytes[5] > 1 {
            return Err(WireError::NotWelcome);
        }
        Ok(Welcome {
            status: bytes[5],
            shard_count: be_u16(&bytes[6..]),
            shard_index: be_u16(&bytes[8..]),
            reason_bytes: be_u16(&bytes[10..]),
            instance: be_u64(&bytes[16..]),
            link_epoch: be_u64(&bytes[24..]),
        })
    }

    /// The fixed part; the reason is the caller's.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[VERSION, self.status]);
        for word in [self.shard_count, self.shard_index, self.reason_bytes] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.instance.to_be_bytes());
        out.extend_from_slice(&self.link_epoch.to_be_bytes());
        out
    }
}

/// The fixed part of a BATCH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// Each frame has its first number in front.
    pub is_redelivered: bool,
    /// Shard that first sent these messages.
    pub origin_shard: u16,
    /// Messages in the body.
    pub count: u32,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Number on this link of the first message, from 1.
    pub first_sequence: u64,
    /// Link that these messages were first sent on.
    pub origin_epoch: u64,
}

impl BatchHeader {
    /// Reads the fixed part, type included.
    ///
    /// # Errors
    /// Unknown flags, no message, or a body too short for its messages.
    pub fn decode(bytes: &[u8; BATCH_HEADER_BYTES]) -> Result<BatchHeader, WireError> {
        assert_eq!(bytes[0], BATCH, "the caller knows its type");
        if bytes[1] & !REDELIVERED != 0 {
            return Err(WireError::BatchFlags(bytes[1]));
        }
        let header = BatchHeader {
            is_redelivered: bytes[1] & REDELIVERED != 0,
            origin_shard: be_u16(&bytes[2..]),
            count: be_u32(&bytes[4..]),
            body_bytes: be_u32(&bytes[8..]),
            first_sequence: be_u64(&bytes[16..]),
            origin_epoch: be_u64(&bytes[24..]),
        };
        let origin = if header.is_redelivered {
            ORIGIN_BYTES
        } else {
            0
        };
        let least = u64::from(header.count) * (FRAME_HEADER_BYTES + origin) as u64;
        match header.count > 0 && least <= u64::from(header.body_bytes) {
            true => Ok(header),
            false => Err(WireError::BatchBody),
        }
    }

    /// A whole batch: count and length are of these frames, each with its first number if redelivered.
    pub fn with_frames<'a>(
        mut self,
        frames: impl IntoIterator<Item = (Option<u64>, &'a [u8])>,
    ) -> Vec<u8> {
        let mut body = Vec::new();
        self.count = 0;
        for (origin, frame) in frames {
            assert_eq!(origin.is_some(), self.is_redelivered);
            body.extend(origin.into_iter().flat_map(u64::to_be_bytes));
            body.extend_from_slice(frame);
            self.count += 1;
        }
        self.body_bytes = u32::try_from(body.len()).expect("small");
        [self.encode(), body].concat()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![BATCH, u8::from(self.is_redelivered)];
        out.extend_from_slice(&self.origin_shard.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.body_bytes.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.first_sequence.to_be_bytes());
        out.extend_from_slice(&self.origin_epoch.to_be_bytes());
        out
    }
}

/// A batch of fresh messages, from shard 0 and epoch 9.
pub fn batch(first_sequence: u64, frames: &[Vec<u8>]) -> Vec<u8> {
    let header = BatchHeader {
        first_sequence,
        origin_epoch: 9,
        ..BatchHeader::default()
    };
    header.with_frames(frames.iter().map(|frame| (None, &frame[..])))
}

/// A batch of messages that were first sent elsewhere, each with its number there.
pub fn batch_again(first_sequence: u64, frames: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let header = BatchHeader {
        is_redelivered: true,
        first_sequence,
        origin_epoch: 9,
        ..BatchHeader::default()
    };
    header.with_frames(
        frames
            .iter()
            .map(|(origin, frame)| (Some(*origin), &frame[..])),
    )
}

pub(crate) fn be_u16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

pub(crate) fn be_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

pub(crate) fn be_u64(bytes: &[u8]) -> u64 {
    let (high, low) = (be_u32(bytes), be_u32(&bytes[4..]));
    u64::from(high) << 32 | u64::from(low)
}
