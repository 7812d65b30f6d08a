//! Batches: messages with an identity, and the one-byte words that travel between them.

use super::{field, NativeError};
use crate::frame::{self, FRAME_HEADER_BYTES};
use crate::take;

/// BATCH without its body.
pub const BATCH_HEADER_BYTES: usize = 32;
/// Origin sequence before each frame of a redelivered batch.
pub const ORIGIN_BYTES: usize = 8;
/// The distributor's one-byte DRAIN.
pub const DRAIN: [u8; 1] = [KIND_DRAIN];
/// The distributor's one-byte GOODBYE.
pub const GOODBYE: [u8; 1] = [KIND_GOODBYE];

const KIND_BATCH: u8 = 0x10;
const KIND_DRAIN: u8 = 0x11;
const KIND_GOODBYE: u8 = 0x12;
const FLAG_REDELIVERED: u8 = 1;

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
}
