//! Wire formats as the bench needs them: the emitter frame with the bench's stamp inside, the
//! compact dialect, and the native link protocol, version 1. All integers are big-endian.
//!
//! ```text
//! frame     [u32 total_length][u8 severity][u64 intended_ns][u32 magic][u64 sequence][filler ...]
//!           '------ header, 5 bytes ------''----------- stamp, 20 bytes -----------'
//! batch     [u8 10][u8 flags][u16 shard][u32 count][u32 body_bytes][u32 0][u64 first][u64 epoch] frames
//! ```

use std::fmt;

use crate::syslog::{next_message, read_text_stamp};

/// Length word and severity.
pub const FRAME_HEADER_LEN: usize = 5;
/// Intended send time, magic, sequence number.
pub const STAMP_LEN: usize = 20;
/// Smallest message the load can send: it has to hold the stamp.
pub const MESSAGE_LEN_MIN: usize = FRAME_HEADER_LEN + STAMP_LEN;
/// The distributor's default maximum; anything longer is a broken stream.
pub const MESSAGE_LEN_MAX: usize = 1 << 20;

const STAMP_MAGIC: u32 = 0x7765_6972;
const NATIVE_MAGIC: [u8; 4] = [0xD7, 0x45, 0x49, 0x52];
const NATIVE_VERSION: u8 = 1;
const BATCH_HEADER_LEN: usize = 32;
const ORIGIN_SEQUENCE_LEN: usize = 8;
const FLAG_REDELIVERED: u8 = 1;
const TYPE_BATCH: u8 = 0x10;
const TYPE_DRAIN: u8 = 0x11;
const TYPE_GOODBYE: u8 = 0x12;
const TYPE_ACK: u8 = 0x01;

/// Asks for any shard in the first link of an analyzer.
pub const SHARD_ANY: u16 = u16::MAX;
/// Length of the distributor's answer to a native hello.
pub const WELCOME_LEN: usize = 32;

/// A stream that cannot be read any further. The link that meets it is closed and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireError {
    /// A frame's length word is under 5 or over the maximum.
    FrameLength(usize),
    /// A native message of unknown type.
    UnknownType(u8),
    /// The frames of a batch do not add up to its announced count and bytes.
    BatchBody,
    /// The answer to the hello is not a native welcome.
    NotWelcome,
    /// A syslog message whose count is no number, or over the maximum.
    OctetCount,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameLength(n) => write!(f, "frame length {n} is not in 5..={MESSAGE_LEN_MAX}"),
            Self::UnknownType(t) => write!(f, "unknown native message type {t:#04x}"),
            Self::BatchBody => write!(f, "batch body does not match its header"),
            Self::OctetCount => write!(
                f,
                "a syslog message's length is no number up to {MESSAGE_LEN_MAX}"
            ),
            Self::NotWelcome => write!(f, "peer does not speak the native protocol, version 1"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<WireError> for std::io::Error {
    fn from(e: WireError) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, e)
    }
}

/// What the load writes into each payload and the sink checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When the schedule wanted the message sent (CLOCK_MONOTONIC); 0 when there is no schedule.
    pub intended_ns: u64,
    /// Unique over the whole run, counting from 0.
    pub sequence: u64,
}

impl Stamp {
    /// Overwrites the stamp in a frame that [`lay_frames`] made.
    pub fn write(self, frame: &mut [u8]) {
        frame[5..13].copy_from_slice(&self.intended_ns.to_be_bytes());
        frame[17..25].copy_from_slice(&self.sequence.to_be_bytes());
    }

    /// `None` for a frame that the bench did not send. A frame made of an HTTP message, and a syslog
    /// message, hold the stamp as text.
    pub fn read(frame: &[u8]) -> Option<Self> {
        match frame.get(FRAME_HEADER_LEN..MESSAGE_LEN_MIN) {
            Some(stamp) if be_u32(&stamp[8..]) == STAMP_MAGIC => Some(Self {
                intended_ns: be_u64(stamp),
                sequence: be_u64(&stamp[12..]),
            }),
            _ => read_text_stamp(frame),
        }
    }
}

/// `count` frames of `size` bytes each, header included, ready to be stamped.
pub fn lay_frames(size: usize, count: usize) -> Vec<u8> {
    assert!(
        (MESSAGE_LEN_MIN..=MESSAGE_LEN_MAX).contains(&size),
        "checked by the arguments"
    );
    let mut frame = vec![b'x'; size];
    frame[..4].copy_from_slice(&(size as u32).to_be_bytes());
    frame[4] = 3;
    frame[13..17].copy_from_slice(&STAMP_MAGIC.to_be_bytes());
    Stamp {
        intended_ns: 0,
        sequence: 0,
    }
    .write(&mut frame);
    frame.repeat(count)
}

/// First word of the compact dialect.
pub fn compact_hello(weight: f64) -> [u8; 4] {
    (weight as f32).to_be_bytes()
}

/// First word of the typed dialect.
pub fn typed_hello(weight: f64) -> [u8; 8] {
    weight.to_be_bytes()
}

/// First message of a native link.
pub fn native_hello(shard: u16, weight: f64, id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 + id.len());
    out.extend_from_slice(&NATIVE_MAGIC);
    out.extend_from_slice(&[NATIVE_VERSION, 0]);
    out.extend_from_slice(&shard.to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&0u64.to_be_bytes());
    out.extend_from_slice(&0u32.to_be_bytes());
    out.extend_from_slice(&0u16.to_be_bytes());
    out.extend_from_slice(&(id.len() as u16).to_be_bytes());
    out.extend_from_slice(id.as_bytes());
    out
}

/// What the bench uses of the distributor's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    pub shard_count: u16,
    pub shard_index: u16,
    pub is_refused: bool,
    /// Bytes of text that follow: why it is refused.
    pub reason_bytes: u16,
}

impl Welcome {
    pub fn decode(bytes: &[u8; WELCOME_LEN]) -> Result<Self, WireError> {
        if bytes[..4] != NATIVE_MAGIC || bytes[4] != NATIVE_VERSION {
            return Err(WireError::NotWelcome);
        }
        Ok(Self {
            shard_count: be_u16(&bytes[6..]),
            shard_index: be_u16(&bytes[8..]),
            is_refused: bytes[5] != 0,
            reason_bytes: be_u16(&bytes[10..]),
        })
    }
}

/// Takes the stream of one link apart and knows what may be ACKed.
#[derive(Debug)]
pub enum Decoder {
    /// Bare frames; the sequence number of a message is its position on the connection.
    Compact { received: u64 },
    /// The same frames, ACKed in words of five bytes.
    Typed { received: u64 },
    /// The same frames from a peer that knows no ACK.
    Frames,
    /// Lines or counted messages from a peer that speaks syslog.
    Syslog,
    /// Batches with their own sequence numbers.
    Native(NativeCursor),
}

/// The batch that is being read, and the last one that was read whole.
#[derive(Debug, Default)]
pub struct NativeCursor {
    frames_left: u32,
    bytes_left: usize,
    redelivered: bool,
    last_sequence: u64,
    acked_up_to: u64,
    redelivered_messages: u64,
}

impl Decoder {
    pub fn compact() -> Self {
        Self::Compact { received: 0 }
    }

    pub fn native() -> Self {
        Self::Native(NativeCursor::default())
    }

    /// Hands every whole frame to `on_frame` and returns how many bytes were used up. The rest
    /// has to come again, with more behind it.
    pub fn decode(
        &mut self,
        bytes: &[u8],
        mut on_frame: impl FnMut(&[u8]),
    ) -> Result<usize, WireError> {
        match self {
            Self::Compact { received } | Self::Typed { received } => {
                let (used, count) = decode_frames(bytes, on_frame)?;
                *received += count;
                Ok(used)
            }
            Self::Frames => Ok(decode_frames(bytes, on_frame)?.0),
            Self::Syslog => {
                let mut used = 0;
                while let Some((len, text)) = next_message(&bytes[used..])? {
                    on_frame(&bytes[used..][text]);
                    used += len;
                }
                Ok(used)
            }
            Self::Native(cursor) => cursor.decode(bytes, on_frame),
        }
    }

    /// Highest sequence number that an ACK may carry now.
    pub fn ackable(&self) -> u64 {
        match self {
            Self::Compact { received } | Self::Typed { received } => *received,
            Self::Frames | Self::Syslog => 0,
            Self::Native(cursor) => cursor.acked_up_to,
        }
    }

    /// Messages that came flagged as redelivered.
    pub fn redelivered(&self) -> u64 {
        match self {
            Self::Native(cursor) => cursor.redelivered_messages,
            _ => 0,
        }
    }

    /// Appends the cumulative ACK of everything ackable.
    pub fn put_ack(&self, out: &mut Vec<u8>) {
        match self {
            // 31 bits, wrapping, under the bit that tells an ACK from a weight.
            Self::Compact { received } => {
                let word = (*received & 0x7FFF_FFFF) as u32 | 0x8000_0000;
                out.extend_from_slice(&word.to_be_bytes());
            }
            Self::Typed { received } => {
                out.push(0);
                out.extend_from_slice(&(*received as u32).to_be_bytes());
            }
            Self::Frames | Self::Syslog => {}
            Self::Native(cursor) => {
                out.push(TYPE_ACK);
                out.extend_from_slice(&cursor.acked_up_to.to_be_bytes());
            }
        }
    }
}

/// Hands over every whole frame; bytes and frames used up.
fn decode_frames(bytes: &[u8], mut on_frame: impl FnMut(&[u8])) -> Result<(usize, u64), WireError> {
    let (mut used, mut count) = (0, 0);
    while let Some(len) = frame_len(&bytes[used..])? {
        on_frame(&bytes[used..used + len]);
        used += len;
        count += 1;
    }
    Ok((used, count))
}

impl NativeCursor {
    fn decode(
        &mut self,
        bytes: &[u8],
        mut on_frame: impl FnMut(&[u8]),
    ) -> Result<usize, WireError> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let step = if self.frames_left > 0 {
                self.frame(rest, &mut on_frame)?
            } else {
                self.header(rest)?
            };
            match step {
                Some(len) => used += len,
                None => return Ok(used),
            }
        }
    }

    fn frame(
        &mut self,
        bytes: &[u8],
        on_frame: &mut impl FnMut(&[u8]),
    ) -> Result<Option<usize>, WireError> {
        let prefix = if self.redelivered {
            ORIGIN_SEQUENCE_LEN
        } else {
            0
        };
        let Some(len) = bytes.get(prefix..).map(frame_len).transpose()?.flatten() else {
            return Ok(None);
        };
        self.frames_left -= 1;
        self.bytes_left = self
            .bytes_left
            .checked_sub(prefix + len)
            .ok_or(WireError::BatchBody)?;
        on_frame(&bytes[prefix..prefix + len]);
        if self.frames_left == 0 {
            if self.bytes_left != 0 {
                return Err(WireError::BatchBody);
            }
            self.acked_up_to = self.last_sequence;
        }
        Ok(Some(prefix + len))
    }

    fn header(&mut self, bytes: &[u8]) -> Result<Option<usize>, WireError> {
        match bytes.first() {
            None => Ok(None),
            Some(&(TYPE_DRAIN | TYPE_GOODBYE)) => Ok(Some(1)),
            Some(&TYPE_BATCH) if bytes.len() < BATCH_HEADER_LEN => Ok(None),
            Some(&TYPE_BATCH) => {
                self.open(bytes)?;
                Ok(Some(BATCH_HEADER_LEN))
            }
            Some(&other) => Err(WireError::UnknownType(other)),
        }
    }

    fn open(&mut self, header: &[u8]) -> Result<(), WireError> {
        self.redelivered = header[1] & FLAG_REDELIVERED != 0;
        self.frames_left = be_u32(&header[4..]);
        self.bytes_left = be_u32(&header[8..]) as usize;
        if self.frames_left == 0 {
            return Err(WireError::BatchBody);
        }
        let count = u64::from(self.frames_left);
        self.last_sequence = be_u64(&header[16..]).wrapping_add(count - 1);
        if self.redelivered {
            self.redelivered_messages += count;
        }
        Ok(())
    }
}

/// Length of the whole frame at the start of `bytes`; `None` while part of it is still to come.
fn frame_len(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    if bytes.len() < 4 {
        return Ok(None);
    }
    let len = be_u32(bytes) as usize;
    if !(FRAME_HEADER_LEN..=MESSAGE_LEN_MAX).contains(&len) {
        return Err(WireError::FrameLength(len));
    }
    Ok((bytes.len() >= len).then_some(len))
}

fn be_u16(b: &[u8]) -> u16 {
    u16::from_be_bytes([b[0], b[1]])
}

fn be_u32(b: &[u8]) -> u32 {
    u32::from_be_bytes([b[0], b[1], b[2], b[3]])
}

fn be_u64(b: &[u8]) -> u64 {
    u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(first: u64, redelivered: bool, frames: &[Vec<u8>]) -> Vec<u8> {
        let prefix = if redelivered { 8 } else { 0 };
        let body: usize = frames.iter().map(|f| f.len() + prefix).sum();
        let mut out = vec![TYPE_BATCH, u8::from(redelivered), 0, 0];
        out.extend_from_slice(&(frames.len() as u32).to_be_bytes());
        out.extend_from_slice(&(body as u32).to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&9u64.to_be_bytes());
        for f in frames {
            out.extend_from_slice(&vec![0xEE; prefix]);
            out.extend_from_slice(f);
        }
        out
    }

    /// Feeds `bytes` in pieces of `step`, keeping the unused tail, as a link does.
    fn feed(decoder: &mut Decoder, bytes: &[u8], step: usize) -> Result<usize, WireError> {
        let (mut held, mut frames) = (Vec::new(), 0);
        for piece in bytes.chunks(step) {
            held.extend_from_slice(piece);
            let used = decoder.decode(&held, |_| frames += 1)?;
            held.drain(..used);
        }
        assert!(held.is_empty(), "{} bytes left over", held.len());
        Ok(frames)
    }

    #[test]
    fn stamp_comes_back_and_a_foreign_frame_has_none() {
        let mut frame = lay_frames(64, 1);
        let stamp = Stamp {
            intended_ns: 77,
            sequence: 1 << 40,
        };
        stamp.write(&mut frame);
        assert_eq!(Stamp::read(&frame), Some(stamp));
        frame[13] ^= 1;
        assert_eq!(Stamp::read(&frame), None);
        assert_eq!(Stamp::read(&[0, 0, 0, 7, 1, 0x68, 0x69]), None);
    }

    #[test]
    fn compact_words_match_the_vectors() {
        assert_eq!(compact_hello(0.4), [0x3E, 0xCC, 0xCC, 0xCD]);
        let mut ack = Vec::new();
        Decoder::Compact { received: 10 }.put_ack(&mut ack);
        assert_eq!(ack, [0x80, 0, 0, 0x0A]);
        ack.clear();
        Decoder::Compact {
            received: (1 << 31) + 1,
        }
        .put_ack(&mut ack);
        assert_eq!(ack, [0x80, 0, 0, 1], "wraps at 2^31");
    }

    #[test]
    fn any_cut_of_a_native_stream_gives_the_same_frames() {
        let frames = vec![lay_frames(30, 1), lay_frames(70, 1), vec![0, 0, 0, 5, 0]];
        let mut stream = batch(1, false, &frames);
        stream.push(TYPE_DRAIN);
        stream.extend_from_slice(&batch(4, true, &frames));
        for step in 1..stream.len() {
            let mut decoder = Decoder::native();
            assert_eq!(feed(&mut decoder, &stream, step), Ok(6));
            assert_eq!((decoder.ackable(), decoder.redelivered()), (6, 3));
        }
    }

    #[test]
    fn only_a_whole_batch_is_ackable() {
        let stream = batch(1, false, &[lay_frames(30, 1), lay_frames(30, 1)]);
        let mut decoder = Decoder::native();
        let used = decoder
            .decode(&stream[..stream.len() - 1], |_| {})
            .expect("valid");
        assert_eq!((used, decoder.ackable()), (32 + 30, 0));
    }

    #[test]
    fn broken_streams_are_refused() {
        assert_eq!(
            Decoder::compact().decode(&[0, 0, 0, 4], |_| {}),
            Err(WireError::FrameLength(4))
        );
        assert_eq!(
            Decoder::native().decode(&[0x77], |_| {}),
            Err(WireError::UnknownType(0x77))
        );
        let mut stream = batch(1, false, &[lay_frames(30, 1)]);
        stream[11] += 1;
        assert_eq!(
            Decoder::native().decode(&stream, |_| {}),
            Err(WireError::BatchBody)
        );
    }
}
