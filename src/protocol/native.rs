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

mod batch;
mod emitter;
mod greeting;

pub use batch::{
    BatchCursor, BatchHeader, BatchMessage, LinkWord, BATCH_HEADER_BYTES, DRAIN, GOODBYE,
    ORIGIN_BYTES,
};
pub use emitter::{
    check_kind, EmitterBatch, EmitterHello, EmitterWelcome, EmitterWord, EMITTER_ACK_BYTES,
    EMITTER_BATCH_BYTES, EMITTER_DRAIN, EMITTER_HELLO_BYTES, EMITTER_MAGIC, EMITTER_WELCOME_BYTES,
};
pub use greeting::{Hello, HelloReader, Welcome, HELLO_BYTES, SHARD_NONE, WELCOME_BYTES};

use super::frame::FrameError;
use std::fmt;

/// "WEIR" with the top bit of its first byte set, so that it is neither dialect's first weight.
pub const MAGIC: [u8; 4] = [0xD7, 0x45, 0x49, 0x52];
/// Version of this document.
pub const VERSION: u8 = 1;
/// Longest analyzer id.
pub const ID_BYTES_MAX: u16 = 255;
/// Longest token of an analyzer, in bytes.
pub const TOKEN_BYTES_MAX: u16 = 256;
/// A native analyzer ACKs what it has processed within this time, also when idle.
pub const ACK_DELAY_MS_MAX: u64 = 1_000;

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
    /// A token of no or too many bytes, though one is announced.
    TokenLength(u16),
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
    /// A message that says it is described, and is not.
    Description,
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
            Self::TokenLength(_) => "native_token_length",
            Self::Status(_) => "native_status",
            Self::UnknownType(_) => "native_unknown_type",
            Self::BatchSize { .. } => "native_batch_size",
            Self::BatchSequence { .. } => "native_batch_sequence",
            Self::Frame(error) => error.as_str(),
            Self::Description => "native_description",
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
            Self::Weight(weight) => write!(
                f,
                "weight {} is not a finite number >= 0",
                crate::WeightText(*weight)
            ),
            Self::IdLength(n) => write!(f, "id of {n} bytes, 1 to {ID_BYTES_MAX} allowed"),
            Self::IdText => write!(f, "id is not UTF-8 without control characters"),
            Self::TokenLength(n) => {
                write!(
                    f,
                    "analyzer token of {n} bytes, 1 to {TOKEN_BYTES_MAX} allowed"
                )
            }
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
            Self::Description => write!(f, "a message says that it is described, and is not"),
            Self::BatchBody => write!(f, "batch body and its frames end at different places"),
        }
    }
}

impl std::error::Error for NativeError {}
/// Magic and version, checked on as many of their bytes as are there.
fn check_start(buf: &[u8]) -> Result<(), NativeError> {
    check_magic(buf, MAGIC)
}

/// The same for another magic.
fn check_magic(buf: &[u8], magic: [u8; 4]) -> Result<(), NativeError> {
    let there = buf.len().min(magic.len());
    if buf[..there] != magic[..there] {
        return Err(NativeError::Magic);
    }
    match buf.get(magic.len()) {
        Some(&version) if version != VERSION => Err(NativeError::Version(version)),
        _ => Ok(()),
    }
}

/// `str::floor_char_boundary` is newer than the oldest toolchain supported.
fn floor_char_boundary_at(text: &str, at: usize) -> usize {
    let mut back = (0..=at.min(text.len())).rev();
    back.find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// `N` bytes of a header at the constant offset `at`.
#[inline]
fn field<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let native = [&MAGIC[..], &[VERSION], &bytes].concat();
            let batch = [&[0x10, 1], &bytes[..]].concat();
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
