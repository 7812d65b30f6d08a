//! The acked emitter link: numbered batches in, one cumulative ACK back.
//!
//! ```text
//!   emitter                                          distributor
//!     HELLO  magic version session id           -->
//!                                    <--  WELCOME  magic version status instance window
//!     BATCH  24-byte header, then `count` frames -->
//!                                    <--  ACK u64  analyzers have ACKed all up to here
//!                                    <--  DRAIN    send nothing new, read on
//!     (end of stream)                           -->
//! ```
//!
//! All integers are big-endian, as on the analyzers' links.

use super::{check_magic, field, floor_char_boundary_at, NativeError, ID_BYTES_MAX, VERSION};
use crate::frame::FRAME_HEADER_BYTES;

/// "EMIT" with the top bit of its first byte set, so that it starts neither a frame nor an analyzer's HELLO.
pub const EMITTER_MAGIC: [u8; 4] = [0xC5, 0x4D, 0x49, 0x54];
/// HELLO of an emitter without its id.
pub const EMITTER_HELLO_BYTES: usize = 32;
/// WELCOME to an emitter without its reason.
pub const EMITTER_WELCOME_BYTES: usize = 32;
/// BATCH of an emitter without its body.
pub const EMITTER_BATCH_BYTES: usize = 24;
/// ACK to an emitter.
pub const EMITTER_ACK_BYTES: usize = 9;
/// The distributor's DRAIN on an emitter's link.
pub const EMITTER_DRAIN: [u8; 1] = [KIND_DRAIN];

const KIND_ACK: u8 = 0x01;
const KIND_BATCH: u8 = 0x10;
const KIND_DRAIN: u8 = 0x11;
const FLAG_RESENT: u8 = 1;
const FLAG_AWAITED: u8 = 2;
const STATUS_OK: u8 = 0;
const STATUS_REFUSED: u8 = 1;

/// First message of an emitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmitterHello<'a> {
    /// Random, one for each stream of numbers: the same on every connection that goes on with the stream.
    pub session: u64,
    /// Name of the emitter, for logs.
    pub id: &'a str,
}

impl<'a> EmitterHello<'a> {
    /// Appends the wire form to `out`.
    ///
    /// # Errors
    /// An id of no or too many bytes.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), NativeError> {
        let id_bytes = u16::try_from(self.id.len()).unwrap_or(u16::MAX);
        if !(1..=ID_BYTES_MAX).contains(&id_bytes) {
            return Err(NativeError::IdLength(id_bytes));
        }
        out.extend_from_slice(&EMITTER_MAGIC);
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&id_bytes.to_be_bytes());
        out.extend_from_slice(&self.session.to_be_bytes());
        out.extend_from_slice(&[0; 16]);
        out.extend_from_slice(self.id.as_bytes());
        Ok(())
    }

    /// The HELLO at the start of `buf` and its length; `Err(bytes)`: so many are needed.
    ///
    /// # Errors
    /// It is none, as soon as that can be seen.
    pub fn decode(buf: &'a [u8]) -> Result<Result<(Self, usize), usize>, NativeError> {
        check_magic(buf, EMITTER_MAGIC)?;
        let Some((fixed, tail)) = buf.split_first_chunk::<EMITTER_HELLO_BYTES>() else {
            return Ok(Err(EMITTER_HELLO_BYTES));
        };
        if fixed[5] != 0 {
            return Err(NativeError::Flags(fixed[5]));
        }
        let id_bytes = u16::from_be_bytes(field(fixed, 6));
        if !(1..=ID_BYTES_MAX).contains(&id_bytes) {
            return Err(NativeError::IdLength(id_bytes));
        }
        let bytes = EMITTER_HELLO_BYTES + usize::from(id_bytes);
        let Some(id) = tail.get(..usize::from(id_bytes)) else {
            return Ok(Err(bytes));
        };
        let id = std::str::from_utf8(id).map_err(|_| NativeError::IdText)?;
        if id.chars().any(char::is_control) {
            return Err(NativeError::IdText);
        }
        let session = u64::from_be_bytes(field(fixed, 8));
        Ok(Ok((EmitterHello { session, id }, bytes)))
    }
}

/// First message of the distributor to an emitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmitterWelcome<'a> {
    /// Why not; `None`: accepted.
    pub refused: Option<&'a str>,
    /// Random number of this run of the distributor.
    pub instance: u64,
    /// Most batches un-ACKed on this connection.
    pub window_batches: u32,
    /// Most bytes of bodies un-ACKed on this connection; one batch may be larger, alone.
    pub window_bytes: u64,
}

impl<'a> EmitterWelcome<'a> {
    /// Appends the wire form to `out`. A reason longer than a u16 counts is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let reason = self.refused.unwrap_or_default();
        let reason = &reason[..floor_char_boundary_at(reason, usize::from(u16::MAX))];
        let status = match self.refused {
            Some(_) => STATUS_REFUSED,
            None => STATUS_OK,
        };
        let reason_bytes = u16::try_from(reason.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&EMITTER_MAGIC);
        out.extend_from_slice(&[VERSION, status]);
        out.extend_from_slice(&reason_bytes.to_be_bytes());
        out.extend_from_slice(&self.instance.to_be_bytes());
        out.extend_from_slice(&self.window_batches.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.window_bytes.to_be_bytes());
        out.extend_from_slice(reason.as_bytes());
    }

    /// The WELCOME at the start of `buf` and its length; `None`: read more.
    ///
    /// # Errors
    /// It is none, as soon as that can be seen.
    pub fn decode(buf: &'a [u8]) -> Result<Option<(Self, usize)>, NativeError> {
        check_magic(buf, EMITTER_MAGIC)?;
        let Some((fixed, tail)) = buf.split_first_chunk::<EMITTER_WELCOME_BYTES>() else {
            return Ok(None);
        };
        let reason_bytes = usize::from(u16::from_be_bytes(field(fixed, 6)));
        let Some(reason) = tail.get(..reason_bytes) else {
            return Ok(None);
        };
        let refused = match fixed[5] {
            STATUS_OK => None,
            STATUS_REFUSED => Some(std::str::from_utf8(reason).unwrap_or("reason is not UTF-8")),
            status => return Err(NativeError::Status(status)),
        };
        let welcome = EmitterWelcome {
            refused,
            instance: u64::from_be_bytes(field(fixed, 8)),
            window_batches: u32::from_be_bytes(field(fixed, 16)),
            window_bytes: u64::from_be_bytes(field(fixed, 24)),
        };
        Ok(Some((welcome, EMITTER_WELCOME_BYTES + reason_bytes)))
    }
}

/// Header of an emitter's batch; `count` frames follow in `body_bytes` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmitterBatch {
    /// It was sent before, on another connection: analyzers may have its messages already.
    pub resent: bool,
    /// The emitter waits for this ACK: it is not to be gathered with others.
    pub awaited: bool,
    /// Frames in the body, at least 1.
    pub count: u32,
    /// Bytes of the body.
    pub body_bytes: u32,
    /// Number of the first message in its session, from 1.
    pub first_sequence: u64,
}

impl EmitterBatch {
    /// The wire form.
    pub fn encode(&self) -> [u8; EMITTER_BATCH_BYTES] {
        let mut out = [0; EMITTER_BATCH_BYTES];
        out[0] = KIND_BATCH;
        out[1] = u8::from(self.resent) * FLAG_RESENT + u8::from(self.awaited) * FLAG_AWAITED;
        out[4..8].copy_from_slice(&self.count.to_be_bytes());
        out[8..12].copy_from_slice(&self.body_bytes.to_be_bytes());
        out[16..24].copy_from_slice(&self.first_sequence.to_be_bytes());
        out
    }

    /// Reads and checks a header.
    ///
    /// # Errors
    /// Another word, unknown flags, or numbers that cannot be true together.
    pub fn decode(bytes: &[u8; EMITTER_BATCH_BYTES]) -> Result<Self, NativeError> {
        check_kind(bytes[0])?;
        let flags = bytes[1];
        if flags & !(FLAG_RESENT | FLAG_AWAITED) != 0 {
            return Err(NativeError::Flags(flags));
        }
        let header = EmitterBatch {
            resent: flags & FLAG_RESENT != 0,
            awaited: flags & FLAG_AWAITED != 0,
            count: u32::from_be_bytes(field(bytes, 4)),
            body_bytes: u32::from_be_bytes(field(bytes, 8)),
            first_sequence: u64::from_be_bytes(field(bytes, 16)),
        };
        let EmitterBatch {
            count, body_bytes, ..
        } = header;
        let least = u64::from(count) * u64::from(FRAME_HEADER_BYTES);
        if count == 0 || u64::from(body_bytes) < least {
            return Err(NativeError::BatchSize { count, body_bytes });
        }
        let last = header.first_sequence.checked_add(u64::from(count));
        if header.first_sequence == 0 || last.is_none() {
            return Err(NativeError::BatchSequence {
                expected: 1,
                found: header.first_sequence,
            });
        }
        Ok(header)
    }

    /// Number of its last message.
    pub fn last_sequence(&self) -> u64 {
        self.first_sequence + u64::from(self.count) - 1
    }
}

/// Whether an emitter's word may begin with this byte.
///
/// # Errors
/// It may not.
pub fn check_kind(byte: u8) -> Result<(), NativeError> {
    match byte {
        KIND_BATCH => Ok(()),
        other => Err(NativeError::UnknownType(other)),
    }
}

/// What the distributor says to an emitter after its WELCOME.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmitterWord {
    /// Analyzers have ACKed every message up to this number of the session.
    Ack(u64),
    /// The distributor shuts down: send nothing new, shut the sending side down, read ACKs to the end.
    Drain,
}

impl EmitterWord {
    /// The word at the start of `buf` and its length; `None`: read more.
    ///
    /// # Errors
    /// No such word.
    pub fn decode(buf: &[u8]) -> Result<Option<(Self, usize)>, NativeError> {
        match buf.first() {
            None => Ok(None),
            Some(&KIND_DRAIN) => Ok(Some((Self::Drain, 1))),
            Some(&KIND_ACK) => Ok(buf.get(1..EMITTER_ACK_BYTES).map(|number| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(number);
                (Self::Ack(u64::from_be_bytes(bytes)), EMITTER_ACK_BYTES)
            })),
            Some(&byte) => Err(NativeError::UnknownType(byte)),
        }
    }

    /// The wire form of an ACK.
    pub fn encode_ack(sequence: u64) -> [u8; EMITTER_ACK_BYTES] {
        let mut out = [KIND_ACK; EMITTER_ACK_BYTES];
        out[1..].copy_from_slice(&sequence.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let greeting = [&EMITTER_MAGIC[..], &[VERSION], &bytes].concat();
            let _ = (EmitterHello::decode(&greeting), EmitterWelcome::decode(&greeting));
            let _ = EmitterWord::decode(&bytes);
            if let Some(header) = bytes.first_chunk() {
                if let Ok(batch) = EmitterBatch::decode(header) {
                    prop_assert!(batch.last_sequence() >= batch.first_sequence);
                }
            }
        }
    }

    #[test]
    fn a_hello_says_how_many_bytes_it_needs() {
        let mut hello = Vec::new();
        let (session, id) = (7, "web-1/0");
        assert_eq!(EmitterHello { session, id }.encode(&mut hello), Ok(()));
        for len in 0..hello.len() {
            let needed = if len < EMITTER_HELLO_BYTES {
                EMITTER_HELLO_BYTES
            } else {
                hello.len()
            };
            assert_eq!(EmitterHello::decode(&hello[..len]), Ok(Err(needed)));
        }
        let whole = Ok(Ok((EmitterHello { session, id }, hello.len())));
        assert_eq!(EmitterHello::decode(&hello), whole);
    }
}
